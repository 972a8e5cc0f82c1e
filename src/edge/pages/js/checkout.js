import { call, key, pause, backoff } from "./api.js";
import { is_page } from "./payment_redirect.js";
import { t, put, note, sorry } from "./i18n.js";
import { money } from "./money.js";
import { root } from "./root.js";

const $ = (selector) => document.querySelector(selector);
const dialog = $("#checkout");
let attempt = null; // {id, key}: one key for one wish to pay, kept over retries and refreshes
let order;

export function open_checkout(next) {
  order = next;
  note("pay_message", "");
  $("#summary").replaceChildren(
    ...order.seats.map(([words, price]) => {
      const item = document.createElement("li");
      const cost = document.createElement("b");
      cost.textContent = price ? money(price) : "";
      item.append(words, cost);
      return item;
    }),
  );
  put($("#pay_total"), money(order.hold.total));
  $("#cards").hidden = is_free();
  put($("#pay_button"), pay_label());
  show_extensions();
  dialog.showModal();
  $("#checkout_heading").focus();
}

const is_free = () => order.hold.total.amount === 0;
const pay_label = () => (is_free() ? t("pay.free") : t("pay.pay_amount", { total: money(order.hold.total) }));

export function forget_attempt() {
  attempt = null;
  try {
    sessionStorage.removeItem("sd_attempt");
  } catch {
    // Nothing was kept, so nothing is to forget.
  }
}

function attempt_key(wish) {
  try {
    attempt ??= JSON.parse(sessionStorage.getItem("sd_attempt"));
  } catch {
    attempt = null;
  }
  if (attempt?.wish !== wish) attempt = { wish, key: key() };
  try {
    sessionStorage.setItem("sd_attempt", JSON.stringify(attempt));
  } catch {
    // The key then lives as long as the page.
  }
  return attempt.key;
}

function show_extensions() {
  $("[data-do=extend]").hidden = order.hold.extensions_left === 0;
}

async function extend() {
  const answer = await call("POST", `${root}/v1/holds/${order.hold.id}/extend`, {});
  if (!answer.ok) return note("pay_message", answer.problem === "no-more-extensions" ? t("pay.no_more") : sorry(answer));
  order.hold = { ...order.hold, ...answer.data };
  order.set_hold(order.hold);
  show_extensions();
}

async function pay() {
  if (dialog.dataset.paying) return;
  const token = is_free() ? "" : $("[name=token]:checked").value;
  const body = { hold: order.hold.id, ...(token && { payment: { method: "card", token } }) };
  const headers = { "idempotency-key": attempt_key(`${order.hold.id} ${order.hold.seats.join()} ${token}`) };
  dialog.dataset.paying = "yes";
  const button = $("#pay_button");
  button.disabled = true;
  button.classList.add("busy");
  put(button, t(token ? "pay.paying" : "pay.getting"));
  note("pay_message", "");
  let answer;
  for (let again = 0; again < 5; again++) {
    answer = await call("POST", `${root}/v1/orders`, body, headers);
    if (answer.status && answer.status !== 429 && answer.status < 500) break;
    // Nobody knows yet whether it was paid. The same key makes asking again safe.
    note("pay_message", t("pay.asking_again"));
    // Not sooner than told, and not all at once.
    await pause(answer.retry_ms ? answer.retry_ms * (1 + Math.random() / 4) : backoff(again, 8000));
  }
  settle(answer, button);
}

function settle(answer, button) {
  if (answer.ok && answer.data?.id) {
    forget_attempt();
    if (answer.data.state !== "declined") return go_on(answer.data);
  }
  delete dialog.dataset.paying;
  button.disabled = false;
  button.classList.remove("busy");
  put(button, pay_label());
  if (answer.status === 402 || answer.data?.state === "declined") {
    forget_attempt();
    if (answer.data?.hold_over) {
      dialog.close();
      order.set_hold(null);
      return note("message", t("pay.declined_over"));
    }
    show_deadline();
    note("pay_message", t("pay.declined"));
    return $("#pay_message").scrollIntoView({ block: "nearest" });
  }
  if (answer.status === 409) {
    forget_attempt();
    dialog.close();
    order.set_hold(null);
    if (answer.data?.alternatives?.length) return order.offer(answer.data.alternatives);
    return note("message", sorry(answer));
  }
  note("pay_message", sorry(answer));
  if (answer.status === 401) order.lost(pay);
}

/** A declined payment may have given the hold another end. */
async function show_deadline() {
  const declined = order;
  const answer = await call("GET", `${root}/v1/holds/${declined.hold.id}`);
  if (!answer.ok || order !== declined || dialog.dataset.paying) return;
  order.hold = answer.data;
  order.set_hold(order.hold);
}

function go_on({ id, action }) {
  location.assign(is_page(action?.url) ? action.url : `${root}/orders/${id}`);
}

$("#pay_button").addEventListener("click", pay);
$("[data-do=extend]").addEventListener("click", extend);
$("#pay").addEventListener("submit", (event) => event.preventDefault());
dialog.addEventListener("cancel", (event) => dialog.dataset.paying && event.preventDefault());
// Back from the bank by the browser's own button: what this page remembers is older than what the server knows.
addEventListener("pageshow", (event) => event.persisted && location.reload());
