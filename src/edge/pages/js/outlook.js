// What somebody who waits may like to know besides her place and her wait. Fetched once she waits, with its words: in the
// page they would not fit into the first round trip.
import { people_in } from "./queue.js";
import { lang, put, count } from "./words.js";

const words = {
  en: {
    there: "About {n} of them have this page open at the moment.",
    zones: "Seats left",
    left: "{zone}: {n} left",
    in_baskets: "{zone}: all in baskets",
    gone: "{zone}: sold out",
    rate_lowered: "People go in a little more slowly now, so the wait has grown.",
    box_office_busy: "Booking is busy inside, so people go in a little more slowly for the moment.",
    more_stayed: "More people came in or stay longer than expected, so the wait has grown.",
    capacity_lowered: "Fewer people are let in at once now, so the wait has grown.",
    all_in_baskets: "All remaining seats are in other people's baskets. Seats that come back are offered in the order of the queue.",
    full_house: "It is full inside at the moment. People go in as others come out.",
  },
  ko: {
    there: "그중 약 {n}명이 지금 이 화면을 열어 두고 계십니다.",
    zones: "남은 좌석",
    left: "{zone}석 {n}석 남음",
    in_baskets: "{zone}석 모두 선택 중",
    gone: "{zone}석 매진",
    rate_lowered: "입장 속도를 늦추어 시간이 길어졌습니다.",
    box_office_busy: "예매창이 붐벼 잠시 천천히 모시고 있습니다.",
    more_stayed: "예상보다 많은 분이 들어오셨거나 오래 머무르셔서 시간이 길어졌습니다.",
    capacity_lowered: "동시에 들어가는 인원을 줄여 시간이 길어졌습니다.",
    all_in_baskets: "남은 좌석을 모두 다른 분들이 고르고 계십니다. 다시 나오는 좌석은 대기 순서대로 안내해 드립니다.",
    full_house: "지금 안이 가득 차서, 나오시는 분이 계실 때마다 한 분씩 모시고 있습니다.",
  },
  ja: {
    there: "そのうち約{n}人が、いまこの画面を開いています。",
    zones: "残りの座席",
    left: "{zone}席 残り{n}席",
    in_baskets: "{zone}席 すべて選択中",
    gone: "{zone}席 完売",
    rate_lowered: "ご入場のペースを落としたため、お待ち時間が延びました。",
    box_office_busy: "購入手続きが混み合っているため、ご入場のペースを一時的に落としています。",
    more_stayed: "予想より多くの方がご入場中、または長くご利用中のため、お待ち時間が延びました。",
    capacity_lowered: "同時にご入場いただく人数を減らしたため、お待ち時間が延びました。",
    all_in_baskets: "残りのお席はすべて、ほかの方が選択中です。戻ったお席は順番どおりにご案内します。",
    full_house: "ただいま満員のため、空き次第順にご案内します。",
  },
}[lang];
const t = (key, values) => (words[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name]);

const node = (tag, name) => Object.assign(document.createElement(tag), { className: name });
const there = node("p", "soft");
const reason = node("p", "soft");
const zones = node("ul", "zones");
zones.setAttribute("aria-label", t("zones"));
const waiting = document.querySelector("[data-view=waiting]");
waiting.querySelector(".big").after(there);
waiting.querySelector(".wait").after(reason);
document.getElementById("more").append(zones);

/** Of those before her, how many have their page open, by what the board says of the few who are asked; `null`: too few. */
function there_in(distance, board) {
  let before = 0;
  let sum = 0;
  for (const [upto, percent] of board.presence?.there ?? []) {
    const people = people_in(Math.min(upto, distance), board);
    sum += ((people - before) * percent) / 100;
    if (distance <= upto) return sum;
    before = people;
  }
  return null;
}

function tell(line, text) {
  put(line, text);
  line.hidden = !text;
}

export function tell_more(board, distance) {
  const present = there_in(distance, board);
  // What is estimated is not said to the last digit.
  tell(there, present >= 10 ? t("there", { n: count(Number(present.toPrecision(2))) }) : "");
  tell(reason, t(board.reason));
  const lines = (board.zones ?? []).map((z) => t(z.free ? "left" : z.held ? "in_baskets" : "gone", { zone: z.zone, n: count(z.free) }));
  if (zones.textContent !== lines.join("")) zones.replaceChildren(...lines.map((textContent) => Object.assign(node("li"), { textContent })));
}
