// What a visit has come to, for a visitor who comes back after it: tickets, a payment under way, or nothing.
import { call } from "./api.js";
import { lang, fill, put, count } from "./i18n.js";
import { root } from "./root.js";

const words = {
  en: {
    bought: "You have your tickets",
    bought_text: "Tickets that you bought for this concert: {n}.",
    limit: "That is as many as one person may buy.",
    more: "To buy more, you can join the queue again.",
    paying: "Your payment is being completed",
    paying_text: "You do not need to do anything here. The order says how it goes on.",
    canceled: "Your order was cancelled",
    canceled_text: "You can join the queue again at any time.",
    to_tickets: "My tickets",
  },
  ko: {
    bought: "예매가 완료되었습니다",
    bought_text: "이 공연에서 구매하신 티켓은 {n}장입니다.",
    limit: "한 분이 구매하실 수 있는 매수를 모두 구매하셨습니다.",
    more: "더 구매하시려면 다시 대기하실 수 있습니다.",
    paying: "결제를 마무리하고 있습니다",
    paying_text: "여기에서 따로 하실 일은 없습니다. 진행 상황은 주문 화면에서 확인하실 수 있습니다.",
    canceled: "주문이 취소되었습니다",
    canceled_text: "언제든지 다시 대기하실 수 있습니다.",
    to_tickets: "내 티켓",
  },
  ja: {
    bought: "ご購入が完了しました",
    bought_text: "この公演のご購入枚数は{n}枚です。",
    limit: "お一人様が購入できる枚数に達しました。",
    more: "追加でご購入の場合は、もう一度列にお並びください。",
    paying: "お支払いを処理しています",
    paying_text: "ここでのお手続きは不要です。状況はご注文の画面でご確認ください。",
    canceled: "ご注文は取り消されました",
    canceled_text: "いつでも列に並び直せます。",
    to_tickets: "マイチケット",
  },
}[lang];

const card = document.querySelector("[data-view=left]");
const link = document.createElement("a");
link.className = "button";
link.href = `${root}/orders`;
link.textContent = words.to_tickets;
link.hidden = true;
card.append(link);

function tell(heading, ...text) {
  put(card.querySelector("h2"), heading);
  put(card.querySelector(".lead"), text.join(" "));
  link.hidden = false;
}

/** `limit`: how many seats one customer may buy. */
export async function show_end(sale, limit) {
  const answer = await call("GET", `${root}/v1/orders?sale=${sale}`);
  const orders = answer.data?.orders ?? [];
  const in_state = (...states) => orders.filter((order) => states.includes(order.state));
  const bought = in_state("paid").reduce((n, order) => n + order.seats.length, 0);
  const again = card.querySelector("[data-do=join]");
  again.hidden = limit > 0 && bought >= limit;
  if (in_state("in_progress", "awaiting_payment").length) return tell(words.paying, words.paying_text);
  if (bought) return tell(words.bought, fill(words.bought_text, { n: count(bought) }), again.hidden ? words.limit : words.more);
  if (in_state("canceled", "refunding", "refunded").length) tell(words.canceled, words.canceled_text);
}
