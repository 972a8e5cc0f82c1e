import { call, now, jitter, backoff, pause, on_wake } from "./api.js";
import { distance_of, people_in, wait_of, is_asked, rhythm, progress, kept } from "./queue_math.js";
import { t, put, note, say, sorry, again_in, count, hour, day, clock, range } from "./i18n.js";

const sale = location.pathname.split("/").at(-1);
// Relative to the page: it has to stay small.
const base = `../v1/sales/${sale}`;
const $ = (selector) => document.querySelector(selector);
const title = () => facts?.title ?? t("sale.title");
const AUTO_ENTER_MS = 9000;

let facts, status, position, view;
let signing_in = false;
let entering = false;
let auto_enter_at = 0;
let failures = 0;
let timer;
let spoken_at = 0;
let ask_at = now() + Math.random() * 20000;
let ring = () => {};
let show_details = () => {};

for (const slot of document.querySelectorAll("[data-slot=advice]")) slot.append($("#advice").content.cloneNode(true));
$(".sticks").append(...Array.from({ length: 20 }, () => document.createElement("i")));

let name = kept("sd_name");
const remember = (next) => kept("sd_name", (name = next));

function fill(name, text) {
  for (const node of document.querySelectorAll(`[data-fill="${name}"]`)) put(node, text);
}

function show(next, take_focus = false) {
  if (view === next) return;
  view = next;
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.dataset.view !== next;
  const heading = $(`[data-view=${next}] h2`);
  if (take_focus) (heading ?? $("#main")).focus();
  if (heading) say(heading.textContent);
  const icon = $("#icon");
  icon.dataset.usual ??= icon.getAttribute("href");
  icon.href = next === "called" ? icon.dataset.called : icon.dataset.usual;
  if (next === "called") ring(t("sale.called_heading"), title());
  if (position) import("./queue_details.js").then((more) => ((show_details = more.show_details), more.arrived(next, sale, facts), render()), () => {});
}

/** The view follows from phase, position and whether the sign-in form is open. */
function choose() {
  const phase = status?.phase ?? facts?.phase;
  if (!phase) return;
  const state = position?.state;
  if (signing_in) return show("sign_in");
  if (state === "called") return show("called", view === "waiting");
  if (state === "admitted") return show("admitted");
  if (phase === "closed") return show("closed");
  if (state === "missed") return show("missed");
  if (["prequeue", "waiting"].includes(state)) return show(position.number == null || ["scheduled", "prequeue", "drawing"].includes(phase) ? "prequeue" : "waiting");
  if (state === "left") return show("left");
  if (phase === "scheduled") return show("scheduled");
  show(phase === "sold_out" ? "sold_out" : "join");
}

const active = () => ["prequeue", "waiting", "called", "admitted", "missed"].includes(position?.state);

function render() {
  choose();
  if (!facts && !status) return;
  const phase = status?.phase ?? facts.phase;
  const opens = status?.on_sale_starts_at ?? facts.on_sale_starts_at;
  const draw = facts?.queue_order !== "fifo";
  const target = phase === "scheduled" && facts?.prequeue_starts_at && Date.parse(facts.prequeue_starts_at) > now() ? facts.prequeue_starts_at : opens;
  const left = Date.parse(target) - now();

  fill("opens", t("sale.opens_at", { time: day(opens) }));
  fill("countdown", left > 0 ? clock(left) : t("sale.any_moment"));
  fill("countdown_label", t(phase === "drawing" || left <= 0 ? "sale.drawing_label" : target === opens ? "sale.until_open" : "sale.until_prequeue"));
  fill("scheduled_text", t(draw ? "sale.scheduled_draw" : "sale.scheduled_fifo"));
  fill("join_eyebrow", phase === "on_sale" ? t("sale.on_sale_now") : phase === "paused" ? t("sale.paused") : t("sale.opens_at", { time: day(opens) }));
  const before = ["scheduled", "prequeue"].includes(phase);
  fill("join_text", before ? t(draw ? "sale.join_draw" : "sale.join_fifo") : t("sale.join_waiting", { n: count(status?.waiting ?? 0) }));
  if (position) {
    const number = position.number == null ? "" : t("sale.number", { n: count(position.number) });
    fill("number", number);
    fill("prequeue_text", position.number == null ? t(status?.draw?.beacon_is_late ? "sale.draw_late" : "sale.prequeue_draw") : t("sale.prequeue_fifo", { n: count(position.number) }));
    fill("joined", position.joined_at ? t("sale.joined_at", { time: hour(position.joined_at) }) : "");
  }
  if (view === "waiting") render_waiting(phase);
  if (view === "called") render_called();
  if (view === "missed") {
    show_details(status);
    fill("missed_text", t(entering ? "sale.at_capacity" : "sale.missed_text"));
  }

  const member = facts?.sign_in !== "customer" || name != null;
  for (const node of document.querySelectorAll("[data-when]")) node.hidden = !{ early: before, soon: before && !member, guest: !member, member }[node.dataset.when];
  $("#draw").hidden = facts?.queue_order !== "fair_draw";
  $("#draw a").href = `${sale}/draw`;
  $("#who").hidden = name == null || signing_in;
  put($("#who span"), t(name ? "sign_in.hello" : "sign_in.unnamed", { name }));
  note("notice", phase === "paused" ? `${t("sale.paused_text")} ${status?.notice ?? ""}` : phase === "sold_out" && active() ? t("sale.waiting_list") : status?.notice);
  const ahead = view === "waiting" ? people_in(distance_of(position.number, status), status) : null;
  document.title = view === "called" ? t("sale.called_title") : ahead != null ? t("sale.waiting_title", { n: count(ahead), title: title() }) : title();
}

function render_waiting(phase) {
  const distance = distance_of(position.number, status);
  const ahead = people_in(distance, status);
  const wait = wait_of(distance, status);
  fill("ahead", count(ahead));
  fill("about", distance <= 16 || ahead === distance ? "" : t("sale.about"));
  $("[data-view=waiting] .big").classList.toggle("long", ahead > 99999);
  fill("wait", wait ? range(wait[0], wait[2]) : t(phase === "on_sale" ? "sale.wait_unknown" : "sale.wait_paused"));
  fill("around", wait ? t("sale.around", { time: hour(Math.round((now() + wait[1] * 1000) / 60000) * 60000) }) : "");
  show_details(status, distance);
  const part = progress(sale, position.number, ahead);
  const lit = Math.max(1, Math.floor(part * 20));
  [...$(".sticks").children].forEach((stick, i) => stick.classList.toggle("lit", i < lit));
  const text = t("sale.progress", { n: Math.floor(part * 100) });
  fill("progress", text);
  $("[data-fill-label=progress]").setAttribute("aria-label", text);
  if (now() - spoken_at > 60000) {
    spoken_at = now();
    say(wait ? t("sale.spoken", { n: count(ahead), wait: range(wait[0], wait[2]) }) : t("sale.spoken_short", { n: count(ahead) }));
  }
}

function render_called() {
  const ends = Date.parse(position.call_ends_at) - now();
  fill("call_clock", position.call_ends_at && ends > 0 ? t("sale.call_clock", { time: clock(ends) }) : "");
  const wait = Math.ceil((auto_enter_at - now()) / 1000);
  fill("called_text", entering ? t("sale.at_capacity") : wait > 0 ? t("sale.called_auto", { n: wait }) : t("sale.called_text"));
}

async function load_status() {
  const answer = await call("GET", `${base}/status`);
  if (answer.ok && answer.data) {
    if (!status || answer.data.version >= status.version) status = answer.data;
    failures = 0;
  } else failures += 1;
  $("#offline").hidden = failures < 2 && navigator.onLine;
  return answer;
}

async function load_position() {
  const answer = await call("GET", `${base}/queue/position`);
  if (answer.ok) position = { ...position, ...answer.data };
  else if ([401, 403, 404].includes(answer.status)) position = null;
  return answer;
}

/** Whether the own position must be asked for. */
const position_may_change = () =>
  position && ((position.number == null && ["on_sale", "paused", "sold_out"].includes(status?.phase)) || (["waiting", "prequeue"].includes(position.state) && position.number != null && status && position.number <= status.now_serving) || (position.state === "called" && position.call_ends_at && Date.parse(position.call_ends_at) < now()));

async function look(again = false) {
  clearTimeout(timer);
  await load_status();
  let own_ms = 0;
  if (!failures && (again || position_may_change())) {
    if (!again && position.number == null) await pause(Math.random() * 4000);
    const answer = await load_position();
    own_ms = answer.data?.poll_after_ms ?? answer.retry_ms;
  }
  if (view === "waiting" && is_asked(position, status) && now() > ask_at) {
    ask_at = Infinity;
    const answer = await call("PUT", `${base}/queue/heartbeat`);
    ask_at = now() + (answer.data?.next_after_ms ?? 60000);
  }
  if (position?.state === "called" && !auto_enter_at) auto_enter_at = now() + AUTO_ENTER_MS;
  if (position?.state !== "called") auto_enter_at = 0;
  render();
  const wait = status && wait_of(distance_of(position?.number, status), status);
  clearTimeout(timer);
  timer = setTimeout(look, failures ? backoff(failures) : Math.max(jitter(rhythm(wait, status)), position_may_change() ? own_ms : 0));
}

async function join(proof) {
  note("message", "");
  document.cookie = "sale";
  if (!document.cookie) return (await import("./no_cookies.js")).open();
  const answer = await call("POST", `${base}/queue`, { proof });
  if (answer.ok) {
    position = answer.data;
    delete position.token;
    signing_in = false;
    auto_enter_at = 0;
    show("loading");
    return look(answer.status === 200);
  }
  if (answer.status === 401) return ask_to_sign_in();
  if (answer.data?.sign_in) return (await import("./join_challenge.js")).go_on(answer, join);
  note("message", sorry(answer));
  if (answer.retry_ms) again_in(jitter(answer.retry_ms), "message", join);
  else look();
}

async function ask_to_sign_in() {
  remember(null);
  signing_in = true;
  render();
  (await import("./sign_in.js")).open(signed_in);
}

async function signed_in(who) {
  remember(who);
  signing_in = false;
  return ["scheduled", "closed"].includes(status?.phase) ? look(true) : join();
}

async function enter() {
  if (entering) return;
  entering = true;
  while (entering) {
    const answer = await call("POST", `${base}/admission`, {});
    if (answer.ok) return location.assign(`${sale}/seats`);
    const own = answer.data?.position ?? answer.data;
    if (own?.state) position = { ...position, ...own };
    if (answer.status === 401) {
      ask_to_sign_in();
      break;
    }
    if (answer.problem === "visit-ended") {
      position = { state: "left" };
      entering = false;
      return render();
    }
    if (answer.problem === "at-capacity" || answer.status === 0 || answer.retry_ms) {
      render();
      await pause(jitter(own?.poll_after_ms || answer.retry_ms || 2000));
      continue;
    }
    if (answer.problem !== "not-called-yet") note("message", sorry(answer));
    break;
  }
  entering = false;
  look(true);
}

async function leave() {
  const answer = await call("DELETE", `${base}/queue`);
  if (!answer.ok) return note("message", sorry(answer));
  position = { state: "left" };
  render();
}

async function sign_out() {
  await call("DELETE", "../v1/session");
  remember(null);
  return look(true);
}

async function tell() {
  ring = (await import("./notify.js")).start();
}

const actions = {
  join,
  enter,
  sign_out,
  tell,
  sign_in: ask_to_sign_in,
  back: () => ((signing_in = false), render()),
  ask_leave: async () => (await import("./leave_queue.js")).ask(leave),
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  await actions[button.dataset.do]();
  button.ariaDisabled = null;
});
on_wake(() => look(true));
addEventListener("offline", () => ($("#offline").hidden = false));
setInterval(() => {
  render();
  if (auto_enter_at && now() > auto_enter_at && !document.hidden && view === "called") enter();
}, 1000);

async function start() {
  if (location.hash === "#ended") note("message", t("sale.visit_ended"));
  if (location.hash === "#done") note("message", t("sale.visit_done"));
  const back = location.hash.startsWith("#sign") ? (await import("./back_from_shop.js")).arrive() : null;
  name = back ?? name;
  const [answer] = await Promise.all([call("GET", base), look(true)]);
  if (answer.status === 404) {
    clearTimeout(timer);
    show("nothing");
    return note("message", t("sale.unknown"));
  }
  if (!answer.ok) return setTimeout(start, backoff(failures + 1));
  facts = answer.data;
  put($("#title"), facts.title);
  const first = facts.performances?.[0];
  import("./venue_time.js").then((m) => put($("#when"), m.begins(first)), () => {});
  put($("#where"), facts.venue ?? first?.venue ?? "");
  if (facts.demo_login) note("demo", t("sign_in.demo", facts.demo_login));
  render();
  if (back != null) signed_in(back);
}
start();
