// Loaded only by a browser that refuses cookies: without them it would lose every place and every session at once.
import { lang, note } from "./i18n.js";

const words = {
  en: "Your browser refuses cookies for this site. Without them your place cannot be kept. Please allow cookies in the browser’s settings, then reload this page.",
  ko: "브라우저가 이 사이트의 쿠키를 막고 있어 순서를 지켜 드릴 수 없습니다. 브라우저 설정에서 쿠키를 허용한 다음 이 화면을 새로 고쳐 주세요.",
  ja: "ブラウザーがこのサイトのクッキーを拒否しているため、順番を保つことができません。ブラウザーの設定でクッキーを許可し、この画面を再読み込みしてください。",
};

export const open = (id = "message") => note(id, words[lang]);
