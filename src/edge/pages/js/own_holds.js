// The seats that the server holds for this visitor, on pages about something else: their time, and the way back.
import { call, now, on_wake } from "./api.js";
import { lang, fill, count, clock } from "./i18n.js";
import { root } from "./root.js";

const words = {
  en: { kept: "Seats kept for you: {n}. Time left: {time}", elsewhere: "Seats kept for you in another sale: {n}. Time left: {time}", paying: "A payment for {n} seats is under way.", go: "Back to my seats", there: "Go there", order: "See the payment" },
  ko: { kept: "고르신 좌석 {n}석을 잡아 두었습니다. 남은 시간 {time}", elsewhere: "다른 공연에서 고르신 좌석 {n}석을 잡아 두었습니다. 남은 시간 {time}", paying: "좌석 {n}석의 결제가 진행 중입니다.", go: "내 좌석으로 가기", there: "보러 가기", order: "결제 확인하기" },
  ja: { kept: "お選びの{n}席を確保しています。残り時間 {time}", elsewhere: "別の公演でお選びの{n}席を確保しています。残り時間 {time}", paying: "{n}席のお支払いを処理しています。", go: "選んだ席に戻る", there: "そちらへ", order: "お支払いを確認する" },
}[lang];

const box = document.createElement("div");
box.className = "stack";
let look = () => {};
/** The sale that the page is about, if any. */
const page_sale = location.pathname.slice(root.length).match(/^\/sales\/([^/]+)/)?.[1];
const is_elsewhere = (hold) => page_sale && hold.sale !== page_sale;

function line(hold) {
  const strip = document.createElement("p");
  strip.className = "strip good";
  const text = document.createElement("span");
  const link = document.createElement("a");
  const is_paying = hold.state === "paying";
  link.className = "button";
  link.href = is_paying ? `${root}/orders` : `${root}/sales/${hold.sale}/seats`;
  link.textContent = is_paying ? words.order : is_elsewhere(hold) ? words.there : words.go;
  strip.append(text, " ", link);
  // On the list of orders the payment itself is shown.
  link.hidden = is_paying && location.pathname === `${root}/orders`;
  return { strip, text, hold };
}

let lines = [];
function tick() {
  for (const { strip, text, hold } of lines) {
    const left = Date.parse(hold.expires_at) - now();
    const is_paying = hold.state === "paying";
    strip.hidden = !is_paying && left <= 0;
    text.textContent = fill(is_paying ? words.paying : is_elsewhere(hold) ? words.elsewhere : words.kept, { n: count(hold.seats.length), time: clock(left) });
  }
}

/** Asks for the holds of all sales, and shows them. */
export async function show_holds() {
  look = show_holds;
  const answer = await call("GET", `${root}/v1/holds`);
  if (answer.ok || answer.status === 401) show_these(answer.data?.holds ?? []);
}

/** Above all else; beside the poster where the page has one. */
const place = () => document.querySelector("main.sale > .stack") ?? document.getElementById("main");

/** Shows these holds at the top of the page. */
export function show_these(holds) {
  lines = holds.map(line);
  box.replaceChildren(...lines.map(({ strip }) => strip));
  if (!box.isConnected && lines.length) place().prepend(box);
  tick();
}

setInterval(tick, 1000);
on_wake(() => look());
