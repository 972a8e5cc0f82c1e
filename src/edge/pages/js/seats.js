import { call, key, now, pause, jitter, on_wake } from "./api.js";
import { read_plan, label, kinds_of } from "./plan.js";
import { seat_map } from "./map.js";
import { seat_list } from "./seat_list.js";
import { follow } from "./availability.js";
import { open_checkout, forget_attempt } from "./checkout.js";
import { t, put, note, say, sorry, count, clock } from "./i18n.js";
import { begins } from "./venue_time.js";
import { money } from "./money.js";

const sale = location.pathname.split("/")[2];
const base = `/v1/sales/${sale}`;
const $ = (selector) => document.querySelector(selector);
const kept = `sd_hold_${sale}`;
const RENEW_MS = 60000;

let facts;
let plan;
let performance_id;
let hold = null; // the server's answer, with `seats` as guids
let chosen = new Set(); // shown as chosen: the hold's seats, or what was just tapped
let wanted = null; // the newest wish while an earlier one is on its way
let busy = false;
let quantity = 2;
let wheelchairs = 0; // how many of them are to have room for one
let unfollow = () => {};
let only_zone = null;

const limit = () => facts?.limits?.seats_per_customer_max ?? 4;
const place = () => `${base}/performances/${performance_id}`;
const performance_facts = () => facts.performances.find((one) => one.id === performance_id);
const price_of = (zone) => (performance_facts()?.price_zones ?? facts.price_zones)?.find((one) => one.zone === zone)?.price ?? null;
const words_of = (i) => [t("seats.seat", label(plan, i)), ...kinds_of(plan, i).map((key) => t(key))].join(", ");

const view = seat_map($("#map"), {
  on_pick: pick,
  on_look: (i) => say(`${words_of(i)}, ${state_in_words(i)}`),
  is_mine: (i) => chosen.has(i),
  is_dimmed: (category) => only_zone !== null && category !== only_zone,
  name_of_section: (section) => [section.name, section.free ? t("seats.left_short", { n: count(section.free) }) : t("seats.none_short")],
});
const list = seat_list($("#list_view"), { on_pick: pick, is_mine: (i) => chosen.has(i), price_of, words_of, state_in_words });

function state_in_words(i) {
  if (chosen.has(i)) return t("seats.state.mine");
  if (plan.state[i]) return t("seats.state.taken");
  const price = price_of(label(plan, i).zone);
  return `${t("seats.state.free")}${price ? `, ${money(price)}` : ""}`;
}

/** A tap shows at once; the server's answer confirms or corrects it. */
function pick(i) {
  note("message", "");
  if (chosen.has(i)) return wish([...chosen].filter((one) => one !== i));
  if (plan.state[i]) return say(`${words_of(i)}, ${t("seats.state.taken")}`);
  if (chosen.size >= limit()) return note("message", t("refusal.limit-reached", { limit: limit() }));
  wish([...chosen, i]);
}

function wish(seats) {
  chosen = new Set(seats);
  wanted = seats;
  render();
  if (!busy) settle();
}

/** One change at a time; taps meanwhile melt into the next one. */
async function settle() {
  busy = true;
  while (wanted) {
    const seats = wanted;
    wanted = null;
    const guids = seats.map((i) => plan.guid[i]);
    if (!hold && !seats.length) break;
    const answer = !seats.length ? await call("DELETE", `/v1/holds/${hold.id}`) : hold ? await call("PATCH", `/v1/holds/${hold.id}`, { seats: guids }) : await persist("POST", `${place()}/holds`, { seats: guids });
    take(answer, !seats.length);
  }
  busy = false;
}

/** Creating twice would hold twice, so an unanswered creation is repeated under the same key. */
async function persist(method, path, body) {
  const headers = { "idempotency-key": key() };
  for (let again = 0; ; again++) {
    const answer = await call(method, path, body, headers);
    if (answer.status || again === 2) return answer;
    await pause(jitter(800));
  }
}

function take(answer, emptied) {
  if (answer.ok || (emptied && answer.status === 404)) {
    set_hold(emptied ? null : answer.data);
    return;
  }
  if (answer.status === 404 && hold) {
    // The hold ran out meanwhile: the same seats may still be free.
    wanted ??= [...chosen];
    hold = null;
    return;
  }
  if (!wanted) chosen = new Set(hold ? hold.seats.map((guid) => plan.index.get(guid)) : []);
  if (answer.status === 401 || answer.status === 403) return lost();
  if (answer.data?.alternatives?.length) offer(answer.data.alternatives);
  else note("message", refusal(answer));
  render();
}

/** `sorry` knows one sentence for all 429; here it matters whether one visit asked too often or many visitors share an address. */
function refusal(answer) {
  if (answer.data?.reason === "holds_of_this_visit") return t("seats.too_often");
  if (answer.data?.reason === "seats_from_this_address") return t("seats.address_full");
  return sorry({ ...answer, data: { limit: limit(), ...answer.data } });
}

function set_hold(next) {
  hold = next;
  if (!wanted) chosen = new Set(hold ? hold.seats.map((guid) => plan.index.get(guid)) : []);
  try {
    if (hold) sessionStorage.setItem(kept, JSON.stringify([hold.id, performance_id]));
    else sessionStorage.removeItem(kept);
  } catch {
    // Without storage the hold is known to this page only.
  }
  if (!hold) forget_attempt();
  render();
}

async function best(zone) {
  if (busy) return;
  busy = true;
  note("message", "");
  // Where the limit allows it, the new seats are held first and the old ones are given back only then.
  const before = hold;
  const too_many = before && before.seats.length + quantity > limit();
  if (too_many) await call("DELETE", `/v1/holds/${before.id}`);
  const answer = await persist("POST", `${place()}/holds`, { best_available: { quantity, zone, section: null, accessible: wheelchairs } });
  busy = false;
  if (answer.ok && before && !too_many) await call("DELETE", `/v1/holds/${before.id}`);
  if (!answer.ok && too_many) hold = null;
  take(answer, false);
  if (!answer.ok) return;
  const first = plan.index.get(answer.data.seats[0]);
  view.to_seat(first);
  say(t("seats.got", { seats: answer.data.seats.map((guid) => words_of(plan.index.get(guid))).join("; ") }));
}

function offer(alternatives) {
  if ($("#checkout").open) $("#checkout").close();
  put($("#alternatives_text"), t("seats.taken_text"));
  $("#chips").replaceChildren(
    ...alternatives.slice(0, 3).map((guids) => {
      const seats = guids.map((guid) => plan.index.get(guid)).filter((i) => i !== undefined);
      const { section, row, zone } = label(plan, seats[0]);
      const button = document.createElement("button");
      button.textContent = t("seats.alternative", { section, row, zone, numbers: seats.map((i) => plan.number[i]).join(", ") });
      button.onclick = () => {
        $("#alternatives").close();
        wish(seats);
        view.to_seat(seats[0]);
      };
      return button;
    }),
  );
  if (!$("#alternatives").open) $("#alternatives").showModal();
}

function render() {
  if (!plan || !facts) return;
  view.redraw();
  list.refresh([...chosen]);
  render_zones();
  put($("#quantity"), t("seats.quantity", { n: quantity }));
  put($("#wheelchairs"), t("seats.wheelchairs", { n: wheelchairs }));
  $("#basket").hidden = !chosen.size;
  $("#chosen").replaceChildren(
    ...[...chosen].map((i) => {
      const item = document.createElement("li");
      const remove = document.createElement("button");
      remove.textContent = "×";
      remove.ariaLabel = t("seats.remove", { seat: words_of(i) });
      remove.onclick = () => pick(i);
      item.append(words_of(i), remove);
      return item;
    }),
  );
  const own = hold && hold.seats.length === chosen.size ? hold.total : sum();
  put($("#total"), own ? t("seats.total", { n: chosen.size, total: money(own) }) : "");
}

function sum() {
  const prices = [...chosen].map((i) => price_of(label(plan, i).zone));
  return prices.length && prices.every(Boolean) ? { amount: prices.reduce((n, p) => n + p.amount, 0), currency: prices[0].currency } : null;
}

function render_zones() {
  const free = plan.categories.map(() => 0);
  const for_wheelchairs = plan.categories.map(() => 0);
  for (let i = 0; i < plan.total; i++) {
    if (plan.state[i]) continue;
    free[plan.category[i]] += 1;
    for_wheelchairs[plan.category[i]] += plan.kinds[i] & 1;
  }
  const box = $("#zones");
  if (box.children.length !== plan.categories.length)
    box.replaceChildren(
      ...plan.categories.map(({ name, color }) => {
        const item = document.createElement("li");
        item.innerHTML = "<button><i></i><b></b><span class='price num'></span><span class='left'></span></button>";
        item.querySelector("i").style.background = color;
        put(item.querySelector("b"), t("seats.zone", { zone: name }));
        const price = price_of(name);
        put(item.querySelector(".price"), price ? money(price) : "");
        item.firstChild.onclick = () => best(name);
        const category = plan.categories.findIndex((one) => one.name === name);
        item.onmouseenter = () => ((only_zone = category), view.redraw());
        item.onmouseleave = () => ((only_zone = null), view.redraw());
        return item;
      }),
    );
  [...box.children].forEach((item, i) => {
    const possible = free[i] >= quantity && for_wheelchairs[i] >= wheelchairs;
    item.firstChild.disabled = !possible;
    if (wheelchairs) return put(item.querySelector(".left"), possible ? t("seats.best_wheelchair", { n: quantity, left: count(for_wheelchairs[i]) }) : t("seats.no_wheelchair"));
    put(item.querySelector(".left"), free[i] ? t("seats.best", { n: quantity, left: count(free[i]) }) : t("seats.zone_gone"));
  });
}

let zones_due = false;
function changed(seats) {
  $("#loading").hidden = true;
  view.redraw();
  if (seats) list.refresh(seats);
  else list.load(plan);
  if (zones_due) return;
  zones_due = true;
  setTimeout(() => ((zones_due = false), render_zones()), 400);
}

async function open_performance(id) {
  unfollow();
  performance_id = id;
  for (const button of document.querySelectorAll("#performances button")) button.ariaPressed = String(button.dataset.id === id);
  $("#loading").hidden = false;
  const answer = await call("GET", performance_facts()?.plan_url ?? `${place()}/plan`);
  if (!answer.ok) return note("message", sorry(answer));
  plan = read_plan(answer.data);
  chosen = new Set();
  for (const entry of document.querySelectorAll("#key [data-bit]")) entry.hidden = !plan.kinds.some((kinds) => kinds & entry.dataset.bit);
  view.load(plan);
  await remembered_hold();
  unfollow = follow(`${place()}/seats`, plan, { on_change: changed, on_refused: lost });
  render();
}

async function remembered_hold() {
  let id, of;
  try {
    [id, of] = JSON.parse(sessionStorage.getItem(kept)) ?? [];
  } catch {
    return;
  }
  if (!id || of !== performance_id) return;
  const answer = await call("GET", `/v1/holds/${id}`);
  set_hold(answer.ok ? answer.data : null);
}

/** The pass is renewed while the page is open; once it is lost the queue token may open the door again, else the sale page explains. */
async function renew() {
  const answer = await call("PUT", `${base}/admission`, {});
  if (answer.ok || !answer.status || answer.status >= 500 || answer.status === 429) return answer.ok;
  const again = await call("POST", `${base}/admission`, {});
  if (!again.ok) leave_to("#ended");
  return again.ok;
}

let asking = false;
async function lost() {
  if (asking) return;
  asking = true;
  if (await renew()) await open_performance(performance_id);
  else note("message", t("problem.offline"));
  asking = false;
}

function leave_to(hash) {
  unfollow();
  location.replace(`/sales/${sale}${hash}`);
}

function tick() {
  if (!hold) return;
  const left = Date.parse(hold.expires_at) - now();
  put($("#hold_clock"), clock(left));
  put($("#pay_clock"), clock(left));
  if (left > 0 || busy || $("#checkout").dataset.paying) return;
  if ($("#checkout").open) $("#checkout").close();
  set_hold(null);
  note("message", t("seats.expired"));
}

function turn_to(name) {
  $("#map_view").hidden = name !== "map";
  $("#list_view").hidden = name !== "list";
  for (const one of ["map", "list"]) $(`[data-do=${one}]`).ariaPressed = String(one === name);
}

const actions = {
  map: () => turn_to("map"),
  list: () => turn_to("list"),
  nearer: () => view.zoom(1.6),
  farther: () => view.zoom(1 / 1.6),
  whole: () => view.whole(),
  fewer: () => ((quantity = Math.max(1, quantity - 1)), (wheelchairs = Math.min(wheelchairs, quantity)), render()),
  fewer_wheelchairs: () => ((wheelchairs = Math.max(0, wheelchairs - 1)), render()),
  more_wheelchairs: () => ((wheelchairs = Math.min(limit(), wheelchairs + 1)), (quantity = Math.max(quantity, wheelchairs)), render()),
  more: () => ((quantity = Math.min(limit(), quantity + 1)), render()),
  checkout: () => !busy && hold && open_checkout({ sale, hold, seats: [...chosen].map((i) => [words_of(i), price_of(label(plan, i).zone)]), set_hold, offer }),
  done: () => $("#leave").showModal(),
  close: () => !$("#checkout").dataset.paying && document.querySelector("dialog[open]").close(),
};

document.addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
$("#message").addEventListener("click", () => note("message", ""));
$("#leave").addEventListener("close", async (event) => {
  if (event.target.returnValue !== "leave") return;
  if (hold) await call("DELETE", `/v1/holds/${hold.id}`);
  await call("DELETE", `${base}/admission`);
  leave_to("#done");
});
on_wake(() => plan && renew());
setInterval(renew, RENEW_MS);
setInterval(tick, 1000);

async function start() {
  const [answer] = await Promise.all([call("GET", base), renew()]);
  if (!answer.ok) {
    note("message", sorry(answer));
    return setTimeout(start, jitter(4000));
  }
  facts = answer.data;
  quantity = Math.min(2, limit());
  put($("#concert"), facts.title);
  document.title = `${t("seats.title")} · ${facts.title}`;
  const box = $("#performances");
  box.hidden = facts.performances.length < 2;
  box.replaceChildren(
    ...facts.performances.map((one) => {
      const button = document.createElement("button");
      button.textContent = begins(one) || (one.title ?? one.id);
      button.dataset.id = one.id;
      button.onclick = () => !busy && one.id !== performance_id && change_performance(one.id);
      return button;
    }),
  );
  await open_performance(facts.performances[0].id);
}

async function change_performance(id) {
  if (hold) await call("DELETE", `/v1/holds/${hold.id}`);
  set_hold(null);
  await open_performance(id);
}
start();
