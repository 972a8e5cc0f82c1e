import { call, key, now, pause, jitter, on_wake } from "./api.js";
import { read_plan, label, kinds_of, is_kept } from "./plan.js";
import { seat_map } from "./map.js";
import { seat_list } from "./seat_list.js";
import { follow } from "./availability.js";
import { open_checkout, forget_attempt } from "./checkout.js";
import { show_others, tick_others } from "./other_holds.js";
import { show_these } from "./own_holds.js";
import { follow_news } from "./sale_news.js";
import { kept } from "./queue_math.js";
import { t, put, note, say, sorry, count, clock } from "./i18n.js";
import { begins } from "./venue_time.js";
import { money } from "./money.js";
import { root } from "./root.js";

const sale = location.pathname.split("/").at(-2);
const base = `${root}/v1/sales/${sale}`;
const $ = (selector) => document.querySelector(selector);
const RENEW_MS = 60000;
const WHEELCHAIR_SPACE = 1;
const FOR_WHEELCHAIRS = 3; // such a space, or a companion's seat beside it

let facts;
let plan;
let performance_id;
let has_wheelchair = false; // said so, for the seats that are kept for wheelchair users
let own = []; // this visitor's holds of the sale, as the server knows them
let elsewhere = []; // and those of other sales
let hold = null; // the one of them whose seats are shown as chosen, with `seats` as guids
let is_signed_out = false;
let pay_only = false; // the visit is over, and held seats may still be paid for
let pass_ends_at = null;
let renewed_at = 0;
let visit_ends_at = null;
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
  if (pay_only) return note("message", t("seats.pay_only"));
  if (plan.state[i]) return say(`${words_of(i)}, ${t("seats.state.taken")}`);
  if (chosen.size >= limit()) return note("message", t("refusal.limit-reached", { limit: limit() }));
  if (plan.kinds[i] & FOR_WHEELCHAIRS && !has_wheelchair) return ask_for_wheelchair(i);
  wish([...chosen, i]);
}

function ask_for_wheelchair(i) {
  const dialog = $("#wheelchair");
  put($("#wheelchair_seat"), words_of(i));
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    has_wheelchair = true;
    wish([...chosen, i]);
  };
  dialog.showModal();
}

/** How many wheelchair spaces are asked for: each is for one person. */
const spaces_in = (seats) => (has_wheelchair ? Math.max(1, seats.filter((i) => plan.kinds[i] & WHEELCHAIR_SPACE).length) : 0);

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
    const body = { seats: seats.map((i) => plan.guid[i]), accessible: spaces_in(seats) };
    if (!hold && !seats.length) break;
    const answer = !seats.length ? await call("DELETE", `${root}/v1/holds/${hold.id}`) : hold ? await call("PATCH", `${root}/v1/holds/${hold.id}`, body) : await persist("POST", `${place()}/holds`, body);
    take(answer, !seats.length, () => wish(seats));
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

/** `again` repeats the wish, where the answer was that the visitor has to sign in. */
function take(answer, emptied, again = () => {}) {
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
  if (answer.status === 401 || answer.status === 403) return lost(again);
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
  own = own.filter((one) => one.id !== hold?.id && one.id !== next?.id);
  hold = next;
  if (hold) own.push(hold);
  if (!wanted) chosen = new Set(hold ? hold.seats.map((guid) => plan.index.get(guid)) : []);
  has_wheelchair = [...chosen].some((i) => plan.kinds[i] & WHEELCHAIR_SPACE);
  // The start page then asks for held seats.
  kept("sd_held", own.length + elsewhere.length > 0);
  if (!hold) forget_attempt();
  render();
  tick();
}

async function best(zone) {
  if (busy) return;
  busy = true;
  note("message", "");
  // Where the limit allows it, the new seats are held first and the old ones are given back only then.
  const before = hold;
  const too_many = before && before.seats.length + quantity > limit();
  if (too_many) await call("DELETE", `${root}/v1/holds/${before.id}`);
  const answer = await persist("POST", `${place()}/holds`, { best_available: { quantity, zone, section: null, accessible: wheelchairs } });
  busy = false;
  if (answer.ok && before && !too_many) await call("DELETE", `${root}/v1/holds/${before.id}`);
  if (before && (too_many || answer.ok)) own = own.filter((one) => one !== before);
  if (!answer.ok && too_many) hold = null;
  take(answer, false, () => best(zone));
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
  const total = hold && hold.seats.length === chosen.size ? hold.total : sum();
  put($("#total"), total ? t("seats.total", { n: chosen.size, total: money(total) }) : "");
  show_others(own.filter((one) => one !== hold), { when: (one) => name_of(one.performance), open: open_hold });
}

function name_of(performance) {
  const one = facts.performances.find(({ id }) => id === performance);
  return begins(one) || (one?.title ?? performance);
}

async function open_hold(next) {
  if (busy) return;
  if (next.performance !== performance_id) return open_performance(next.performance, next);
  hold = null;
  set_hold(next);
}

function sum() {
  const prices = [...chosen].map((i) => price_of(label(plan, i).zone));
  return prices.length && prices.every(Boolean) ? { amount: prices.reduce((n, p) => n + p.amount, 0), currency: prices[0].currency } : null;
}

function render_zones() {
  // Free for everybody, kept for wheelchair users and their companions, and the spaces among those.
  const [free, kept, for_wheelchairs] = [0, 0, 0].map(() => plan.categories.map(() => 0));
  for (let i = 0; i < plan.total; i++) {
    if (plan.state[i]) continue;
    (is_kept(plan, i) ? kept : free)[plan.category[i]] += 1;
    for_wheelchairs[plan.category[i]] += plan.kinds[i] & WHEELCHAIR_SPACE;
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
    const possible = wheelchairs ? free[i] + kept[i] >= quantity && for_wheelchairs[i] >= wheelchairs : free[i] >= quantity;
    item.firstChild.disabled = !possible;
    if (wheelchairs) return put(item.querySelector(".left"), possible ? t("seats.best_wheelchair", { n: quantity, left: count(for_wheelchairs[i]) }) : t("seats.no_wheelchair"));
    put(item.querySelector(".left"), free[i] ? t("seats.best", { n: quantity, left: count(free[i]) }) : t(kept[i] ? "seats.only_wheelchairs" : "seats.zone_gone"));
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

/** Shows a performance, with the visitor's hold there, if there is one. */
async function open_performance(id, shown) {
  unfollow();
  hold = null;
  performance_id = id;
  for (const button of document.querySelectorAll("#performances button")) button.ariaPressed = String(button.dataset.id === id);
  $("#loading").hidden = false;
  const answer = await call("GET", performance_facts()?.plan_url ?? `${place()}/plan`);
  if (!answer.ok) return note("message", sorry(answer));
  plan = read_plan(answer.data);
  chosen = new Set();
  for (const entry of document.querySelectorAll("#key [data-bit]")) entry.hidden = !plan.kinds.some((kinds) => kinds & entry.dataset.bit);
  view.load(plan);
  set_hold(shown ?? own_of(id) ?? null);
  if (hold?.state === "paying") note("message", t("seats.at_the_bank"));
  $("#loading").hidden = pay_only;
  if (!pay_only) unfollow = follow(`${place()}/seats`, plan, { on_change: changed, on_refused: () => lost() });
}

/** What the server holds for this visitor, whichever window or device it was chosen with. Says whether it answered. */
async function load_own() {
  const answer = await call("GET", `${root}/v1/holds`);
  is_signed_out = answer.status === 401;
  if (answer.ok || is_signed_out) {
    const holds = answer.data?.holds ?? [];
    own = holds.filter((one) => one.sale === sale);
    elsewhere = holds.filter((one) => one.sale !== sale);
    show_these(elsewhere);
  }
  return answer.ok || answer.status === 401;
}

/** The hold to show: one that can be changed, or one that waits at the bank and may be paid with another card. */
const own_of = (performance) => own.find((one) => one.performance === performance && one.state === "held") ?? own.find((one) => one.performance === performance);

async function refresh_own() {
  if (busy || !plan || $("#checkout").open || !(await load_own()) || busy) return;
  const shown = own.find((one) => one.id === hold?.id) ?? own_of(performance_id);
  hold = null;
  set_hold(shown ?? null);
}

/** The pass is renewed while the page is open; once it is lost the queue token may open the door again, else the sale page explains. */
async function renew(again) {
  let answer = await call("PUT", `${base}/admission`, {});
  if (answer.status && answer.status < 500 && answer.status !== 429 && !answer.ok) answer = await call("POST", `${base}/admission`, {});
  if (answer.ok) {
    // A pass that is not prolonged any more ends with the visit.
    if (now() - renewed_at > RENEW_MS / 2) visit_ends_at = answer.data.expires_at === pass_ends_at ? pass_ends_at : null;
    pass_ends_at = answer.data.expires_at;
    renewed_at = now();
    pay_only = false;
    return true;
  }
  if (!answer.status || answer.status >= 500 || answer.status === 429) return false;
  if (answer.problem === "sign-in-required" || (is_signed_out && facts?.sign_in === "customer")) await ask_to_sign_in(again);
  else if (!own.length) leave_to(pass_ends_at ? "#ended" : "");
  else end_choosing();
  return false;
}

function end_choosing() {
  unfollow();
  pay_only = true;
  $("#loading").hidden = true;
  note("message", t("seats.pay_only"));
}

/** Signs in over this page, and goes on with `again`. */
async function ask_to_sign_in(again = () => {}) {
  const go_on = async () => {
    await load_own();
    if ((await renew()) || pay_only) await open_performance(performance_id ?? facts.performances[0].id);
    again();
  };
  (await import("./session.js")).ask_to_sign_in(go_on, facts?.demo_login);
}

let asking = false;
async function lost(again) {
  if (asking) return;
  asking = true;
  if (await renew(again)) await open_performance(performance_id);
  else if (!pay_only && $("#signed_out").hidden) note("message", t("problem.offline"));
  asking = false;
}

function leave_to(hash) {
  unfollow();
  location.replace(`${root}/sales/${sale}${hash}`);
}

function tick() {
  tick_others();
  const visit_left = visit_ends_at && !pay_only ? Date.parse(visit_ends_at) - now() : 0;
  note("visit_end", visit_left > 0 ? t("seats.ends_in", { time: clock(visit_left) }) : "");
  if (!hold) return;
  const left = Date.parse(hold.expires_at) - now();
  put($("#hold_clock"), clock(left));
  put($("#pay_clock"), clock(left));
  if (left > 0 || busy || $("#checkout").dataset.paying) return;
  if ($("#checkout").open) $("#checkout").close();
  set_hold(null);
  if (pay_only) return leave_to("#ended");
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
  checkout: () => !busy && hold && open_checkout({ sale, hold, seats: [...chosen].map((i) => [words_of(i), price_of(label(plan, i).zone)]), set_hold, offer, lost }),
  done: () => $("#leave").showModal(),
  close: () => !$("#checkout").dataset.paying && document.querySelector("dialog[open]").close(),
};

document.addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
$("#message").addEventListener("click", () => note("message", ""));
$("#leave").addEventListener("close", async (event) => {
  if (event.target.returnValue !== "leave") return;
  for (const one of own) await call("DELETE", `${root}/v1/holds/${one.id}`);
  await call("DELETE", `${base}/admission`);
  leave_to("#done");
});
on_wake(() => plan && !pay_only && renew().then(refresh_own));
setInterval(() => pay_only || renew(), RENEW_MS);
setInterval(tick, 1000);

async function start() {
  const [answer] = await Promise.all([call("GET", base), load_own()]);
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
      button.onclick = () => !busy && one.id !== performance_id && open_performance(one.id);
      return button;
    }),
  );
  follow_news(base);
  await renew();
  const first = own.find((one) => one.state === "held") ?? own[0];
  await open_performance(first?.performance ?? facts.performances[0].id);
}
if (location.hash.startsWith("#sign")) import("./back_from_shop.js").then((back) => back.arrive());
start();
