// Loaded only when joining needs proof of work or an address is over its limit. Texts stand here to keep the page small.
import { jitter } from "./api.js";
import { lang, again_in } from "./i18n.js";

const words = {
  en: {
    working: "One moment: your browser is doing a short calculation that keeps robots from filling the queue. You need to do nothing.",
    crowded: "Many people have joined from your connection. We try again by ourselves; or sign in, and you get your place at once.",
    failed: "Your browser could not do the calculation. Please sign in, or try another browser.",
  },
  ko: {
    working: "잠시만 기다려 주세요. 로봇이 줄을 채우지 못하도록 브라우저가 짧은 계산을 하고 있습니다. 아무것도 하지 않으셔도 됩니다.",
    crowded: "같은 인터넷 연결에서 많은 분이 참여했습니다. 저희가 다시 시도합니다. 로그인하시면 바로 자리를 받으실 수 있습니다.",
    failed: "브라우저에서 계산하지 못했습니다. 로그인하시거나 다른 브라우저로 다시 시도해 주세요.",
  },
  ja: {
    working: "少々お待ちください。ロボットが列を埋めないよう、ブラウザーが短い計算をしています。何もする必要はありません。",
    crowded: "同じ接続から多くの方が参加しています。自動でもう一度試します。ログインすると、すぐに順番を取れます。",
    failed: "ブラウザーで計算できませんでした。ログインするか、別のブラウザーでお試しください。",
  },
}[lang];
/** After so long the other way is offered: signing in. */
const LONG_MS = 6000;

const why = document.createElement("p");
const bar = document.createElement("progress");
const button = document.createElement("button");
why.className = "strip";
why.setAttribute("role", "status");
bar.setAttribute("aria-hidden", "true");
button.dataset.do = "sign_in";
button.textContent = document.querySelector("#sign_in .go").textContent;
document.getElementById("message").after(why, bar, button);

/** Says something, and shows only what belongs to it. */
function tell(text, ...shown) {
  why.textContent = text;
  for (const node of [why, bar, button]) node.hidden = !shown.includes(node);
}

function found({ salt, challenge, maxnumber }) {
  const worker = new Worker(new URL("./pow_worker.js", import.meta.url));
  bar.max = maxnumber;
  bar.removeAttribute("value");
  return new Promise((done) => {
    worker.onmessage = ({ data }) => ("tried" in data ? (bar.value = data.tried) : done(data.number));
    worker.onerror = () => done(null);
    worker.postMessage({ salt, challenge, maxnumber });
  }).finally(() => worker.terminate());
}

/** Solves the challenge and joins, or counts down to the next try; signing in helps with both. */
export async function go_on({ data, retry_ms }, join) {
  const { challenge, reason } = data;
  const again = (proof) => (tell(""), join(proof));
  if (!challenge) {
    tell(words.crowded, why, button);
    return again_in(jitter(retry_ms), "message", again);
  }
  tell(words.working, why, bar);
  const late = setTimeout(() => (button.hidden = false), LONG_MS);
  let number = null;
  try {
    // What was found and refused as wrong would be found again.
    if (reason !== "wrong") number = await found(challenge);
  } catch {
    // No workers here.
  }
  clearTimeout(late);
  if (number === null) return tell(words.failed, why, button);
  const { algorithm, salt, signature } = challenge;
  return again({ algorithm, challenge: challenge.challenge, number, salt, signature });
}
