// Asks the shop to send a message when it is the visitor's turn. The server keeps the request, so it holds when the page is closed.
import { call } from "./api.js";
import { lang, put, note, say, sorry } from "./i18n.js";
import { root } from "./root.js";

const words = {
  en: ["Send me a message when it is my turn", "You will get a message from the shop at your turn", "Do not send a message", "You are called already, so no message is needed."],
  ko: ["차례가 되면 메시지로 받기", "차례가 되면 쇼핑몰에서 메시지를 보내 드립니다", "메시지 받지 않기", "이미 차례가 되어 메시지를 보내 드릴 필요가 없습니다."],
  ja: ["順番が来たらメッセージを受け取る", "順番が来ましたら、ショップからメッセージをお送りします", "メッセージを受け取らない", "すでに順番が来ているため、メッセージは必要ありません。"],
}[lang];
const boxes = [];
let path;

function show(is_asked) {
  for (const { text, button } of boxes) {
    put(text, is_asked ? words[1] : "");
    text.hidden = !is_asked;
    put(button, words[is_asked ? 2 : 0]);
    button.className = is_asked ? "quiet" : "tell";
    button.onclick = () => change(is_asked ? "DELETE" : "PUT");
  }
}

async function change(method) {
  for (const { button } of boxes) button.disabled = true;
  const answer = await call(method, path);
  for (const { button } of boxes) button.disabled = false;
  if (!answer.ok) return note("message", answer.problem === "not-waiting" ? words[3] : sorry(answer));
  note("message", "");
  show(method === "PUT");
  say(words[method === "PUT" ? 1 : 0]);
}

/** Adds the button to the advice for waiting visitors. The place may be another one than before: what was asked is read anew. */
export async function offer(sale) {
  path = `${root}/v1/sales/${sale}/queue/call-notice`;
  const answer = await call("GET", path);
  if (!answer.ok) return;
  if (boxes.length) return show(answer.data.is_asked);
  for (const slot of document.querySelectorAll("[data-slot=advice]")) {
    const [text, button] = [document.createElement("p"), document.createElement("button")];
    text.className = "strip good";
    boxes.push({ text, button });
    slot.prepend(text, button);
  }
  show(answer.data.is_asked);
}
