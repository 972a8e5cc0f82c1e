import { call, jitter, backoff, on_wake } from "./api.js";
import { show_holds } from "./own_holds.js";
import { kept } from "./queue_math.js";
import { t, put, note, sorry } from "./i18n.js";
import { begins } from "./venue_time.js";
import { money } from "./money.js";
import { root } from "./root.js";

const $ = (selector) => document.querySelector(selector);
const MOVING = ["in_progress", "awaiting_payment", "refunding"];
let sales = [];
let timer;

function card(order) {
  const sale = sales.find((one) => one.id === order.sale);
  const performance = sale?.performances?.find((one) => one.id === order.performance);
  const item = document.createElement("li");
  item.innerHTML = '<a class="card"><span class="state"></span><h2></h2><p class="when"></p><p class="what num"></p><span class="button"></span></a>';
  item.className = order.state;
  item.firstChild.href = `${root}/orders/${order.id}`;
  const fill = (selector, text) => put(item.querySelector(selector), text);
  fill(".state", t(`order.state.${order.state}`));
  fill("h2", sale?.title ?? order.sale);
  fill(".when", [begins(performance), performance?.venue ?? sale?.venue].filter(Boolean).join(" · "));
  fill(".what", t("orders.what", { n: order.seats.length, total: money(order.total) }));
  fill(".button", t(order.state === "paid" ? "orders.to_tickets" : "orders.to_order"));
  return item;
}

function render(orders) {
  const newest_first = orders.toSorted((a, b) => b.created_at.localeCompare(a.created_at));
  $("#loading").hidden = true;
  $("#none").hidden = orders.length > 0;
  $("#orders").replaceChildren(...newest_first.map(card));
}

async function look(failures = 0) {
  clearTimeout(timer);
  const answer = await call("GET", `${root}/v1/orders`);
  const name = kept("sd_name");
  $("#who").hidden = name == null || answer.status === 401;
  put($("#who span"), t(name ? "sign_in.hello" : "sign_in.unnamed", { name }));
  if (answer.status === 401) {
    render([]);
    return (await import("./session.js")).ask_to_sign_in(start, sales.find((one) => one.demo_login)?.demo_login);
  }
  note("message", answer.ok ? "" : sorry(answer));
  if (answer.ok) render(answer.data.orders);
  if (!answer.ok || answer.data.orders.some((order) => MOVING.includes(order.state))) timer = setTimeout(look, answer.retry_ms || (answer.ok ? jitter(3000) : backoff(failures)), failures + 1);
}

async function start() {
  if (location.hash.startsWith("#sign")) (await import("./back_from_shop.js")).arrive();
  const answer = await call("GET", `${root}/v1/sales`);
  if (answer.ok) sales = answer.data.sales;
  show_holds();
  look();
}

$("#sign_out").addEventListener("click", async () => {
  const answer = await call("DELETE", `${root}/v1/session`);
  if (!answer.ok && answer.status !== 401) return note("message", sorry(answer));
  kept("sd_name", null);
  location.assign(`${root}/`);
});
on_wake(() => look());
start();
