import { call, jitter, backoff, key, on_wake } from "./api.js";
import { is_page } from "./payment_redirect.js";
import { t, has, put, note, sorry, hour } from "./i18n.js";
import { begins } from "./venue_time.js";
import { money } from "./money.js";
import { root } from "./root.js";

const id = location.pathname.split("/").at(-1);
const base = `${root}/v1/orders/${id}`;
const $ = (selector) => document.querySelector(selector);
const GIVEN_UP = ["canceled_before_payment", "payment_page_timed_out"];
const UNPAID = [...GIVEN_UP, "replaced", "canceled_by_operator_before_payment"];
const MOVING = ["in_progress", "awaiting_payment", "refunding"];

let order;
let facts;
let tickets = null;
let failures = 0;
let just_back = true; // from the bank, perhaps: the gateway is asked at once
let timer;

async function look() {
  clearTimeout(timer);
  let answer = await call("GET", base);
  if (just_back && answer.data?.state === "awaiting_payment") {
    await call("POST", `${base}/confirm`, {});
    answer = await call("GET", base);
  }
  if (answer.ok) just_back = false;
  const history = await call("GET", `${base}/history`);
  $("#below").hidden = !answer.ok && !order;
  if (answer.status === 401) {
    order ?? tell("order.signed_out", "order.signed_out_text");
    return (await import("./session.js")).ask_to_sign_in(look);
  }
  if (answer.status === 404) {
    tell("order.not_found", "order.not_found_text");
    $("#more").hidden = false;
    $("#more").href = `${root}/orders`;
    return put($("#more"), t("common.my_tickets"));
  }
  failures = answer.ok ? 0 : failures + 1;
  note("message", answer.ok ? "" : sorry(answer));
  if (answer.ok) {
    order = answer.data;
    facts ??= (await call("GET", `${root}/v1/sales/${order.sale}`)).data;
    if (order.state === "paid" && !tickets?.length) tickets = list_in((await call("GET", `${base}/tickets`)).data, "tickets");
    render();
  }
  if (history.ok) render_history(list_in(history.data, "history"));
  const waiting = !order || failures || MOVING.includes(order.state) || (order.state === "paid" && !tickets?.length);
  if (waiting) timer = setTimeout(look, failures ? backoff(failures) : jitter(1500));
}

function tell(heading, text) {
  put($("#state"), t(heading));
  put($("#text"), t(text));
}

const list_in = (data, name) => (Array.isArray(data) ? data : (data?.[name] ?? []));

/** The parts of the keys of heading and text: more than the state where no money was taken, or an operator canceled. */
function words_of_state() {
  const { state, reason } = order;
  if (state === "refunding" && UNPAID.includes(reason)) return ["canceling", "canceling"];
  const has_own_text = UNPAID.includes(reason) || (state === "canceled" && reason === "canceled_by_operator");
  return has_own_text ? [state, reason] : [state, state];
}

function render() {
  const [heading, text] = words_of_state();
  put($("#state"), t(`order.state.${heading}`));
  put($("#text"), t(`order.text.${text}`));
  document.title = `${t(`order.state.${heading}`)} · ${facts?.title ?? t("order.title")}`;
  put($("#total"), order.total ? money(order.total) : "");
  put($("#number"), order.id);
  const seats = tickets?.length ? tickets.map((one) => t("order.seat", one)) : order.seats;
  $("#seats").replaceChildren(...seats.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  const paid = order.state === "paid";
  $("#cancel").hidden = !paid;
  $("#print").hidden = !paid || !tickets?.length;
  render_way_back();
  const again = ["declined", "expired", "canceled", "refunded"].includes(order.state);
  $("#more").hidden = !again;
  // After a declined payment, or for another card, the hold lives on for a while.
  const has_hold = order.state === "declined" || order.reason === "replaced";
  const to_seats = has_hold || GIVEN_UP.includes(order.reason);
  $("#more").href = to_seats ? seats_page() : `${root}/sales/${order.sale}`;
  put($("#more"), t(has_hold ? "order.to_seats" : to_seats ? "order.choose_seats" : "order.more"));
  $("#more").classList.toggle("go", to_seats);
  const box = $("#tickets");
  box.hidden = !paid || !tickets?.length;
  if (!box.hidden && box.childElementCount !== tickets.length) box.replaceChildren(...tickets.map(ticket_card));
}

/** At the bank, and back: on to the bank, another card for the same seats, or none of it. */
function render_way_back() {
  const waits = order.state === "awaiting_payment";
  $("#to_bank").hidden = !waits || !is_page(order.action?.url);
  if (!$("#to_bank").hidden) $("#to_bank").href = order.action.url;
  $("#another_card").hidden = !waits;
  $("#another_card").href = seats_page();
  $("#give_up").hidden = !waits;
  if (!waits && $("#give_up_sure").open) $("#give_up_sure").close();
  note("limit", waits && order.payment_deadline ? t("order.limit", { time: hour(order.payment_deadline) }) : "");
}

const seats_page = () => `${root}/sales/${order.sale}/seats`;

function ticket_card(ticket) {
  const card = document.createElement("article");
  card.className = "ticket";
  card.innerHTML = "<header><h3></h3><p></p></header><dl></dl><figure><img><figcaption></figcaption></figure>";
  put(card.querySelector("h3"), facts?.title ?? "");
  const performance = facts?.performances?.find((one) => one.id === ticket.performance);
  put(card.querySelector("p"), [begins(performance), performance?.venue ?? facts?.venue].filter(Boolean).join(" · "));
  for (const [name, value] of [["order.section", ticket.section], ["order.row", ticket.row], ["order.seat_number", ticket.number]]) {
    const pair = document.createElement("div");
    pair.append(Object.assign(document.createElement("dt"), { textContent: t(name) }), Object.assign(document.createElement("dd"), { textContent: value }));
    card.querySelector("dl").append(pair);
  }
  const image = card.querySelector("img");
  image.src = ticket.qr_svg_url;
  image.alt = t("order.qr", ticket);
  put(card.querySelector("figcaption"), t("order.show"));
  return card;
}

const UNDER_WAY = ["started", "waiting", "retrying"];

/** A step that has gone on says only how it went on. */
function render_history(entries) {
  const told = entries.filter(({ step, state }, i) => !UNDER_WAY.includes(state) || !entries.slice(i + 1).some((later) => later.step === step));
  $("#steps").replaceChildren(
    ...told.map((entry) => {
      const item = document.createElement("li");
      item.className = UNDER_WAY.includes(entry.state) ? "open" : entry.state === "refused" ? "bad" : "";
      const time = Object.assign(document.createElement("time"), { textContent: hour(entry.at), dateTime: entry.at });
      item.append(t(has(entry.text_key) ? entry.text_key : "history.other"), time);
      return item;
    }),
  );
}

async function cancel() {
  $("#cancel").disabled = true;
  const answer = await call("POST", `${base}/cancel`, {}, { "idempotency-key": key() });
  $("#cancel").disabled = false;
  if (!answer.ok) return note("message", sorry(answer));
  tickets = null;
  look();
}

async function give_up() {
  $("#give_up").disabled = true;
  const answer = await call("POST", `${base}/cancel`, {}, { "idempotency-key": key() });
  $("#give_up").disabled = false;
  if (answer.data?.state === "canceled") return location.assign(seats_page());
  // The bank was quicker: the order says so.
  if (answer.ok || answer.status === 409) return look();
  note("message", sorry(answer));
}

$("#cancel").addEventListener("click", () => $("#sure").showModal());
$("#give_up").addEventListener("click", () => $("#give_up_sure").showModal());
$("#give_up_sure").addEventListener("close", (event) => event.target.returnValue === "cancel" && give_up());
$("#print").addEventListener("click", () => print());
$("#sure").addEventListener("close", (event) => event.target.returnValue === "cancel" && cancel());
on_wake(() => {
  just_back = true;
  look();
});
if (location.hash.startsWith("#sign")) import("./back_from_shop.js").then((back) => back.arrive());
look();
