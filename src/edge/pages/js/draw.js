// The draw, recomputed in the browser from published data only.
import { call, jitter, now } from "./api.js";
import { check_all, check_mine } from "./draw_verify.js";
import { t, note, sorry, count, day } from "./i18n.js";
import { root } from "./root.js";

const sale = location.pathname.split("/").at(-2);
const base = `${root}/v1/sales/${sale}/draw`;
const $ = (selector) => document.querySelector(selector);
const LOOK_MS = 3000;
const LATE_MS = 3000;
let draw;

const is_late = () => draw.root && now() > Date.parse(draw.round_at) + LATE_MS;

function steps() {
  const short = (hash) => `${hash.slice(0, 16)}…`;
  return [
    [true, t("draw.step.promised"), short(draw.commitment)],
    [draw.root, draw.root ? t("draw.step.closed", { n: count(draw.entries), time: day(draw.closed_at) }) : t("draw.step.to_close"), draw.root && short(draw.root)],
    [draw.beacon, t(draw.beacon ? "draw.step.beacon" : is_late() ? "draw.step.late" : "draw.step.to_come", { n: count(draw.round ?? draw.planned_round), time: day(draw.round_at ?? draw.planned_round_at) }), draw.beacon && short(draw.beacon)],
    [draw.order, t(draw.order ? "draw.step.drawn" : "draw.step.to_draw"), draw.order && short(draw.order)],
  ];
}

function render() {
  const items = steps().map(([done, text, hash]) => {
    const item = Object.assign(document.createElement("li"), { className: done ? "done" : "", textContent: text });
    if (hash) item.append(Object.assign(document.createElement("small"), { textContent: hash }));
    return item;
  });
  $("#steps").replaceChildren(...items);
  $("#check").hidden = !draw.order;
  $("#facts").hidden = $("#keep").hidden = false;
  const rows = Object.entries(draw).flatMap(([name, value]) => (value == null ? [] : [[name, typeof value === "object" ? JSON.stringify(value) : String(value)]]));
  $("#values").replaceChildren(...rows.flatMap(([name, value]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]));
}

function verdict(kind, text) {
  note("verdict", text);
  $("#verdict").className = `verdict ${kind}`;
}

const progress = (share) => verdict("", t("draw.computing", { n: Math.floor(share * 100) }));

async function checked(work) {
  if (!crypto.subtle) return verdict("wrong", t("draw.no_crypto"));
  progress(0);
  try {
    await work();
  } catch (error) {
    if (!error.wrong) throw error;
    verdict("wrong", t("draw.wrong", { what: error.wrong }));
  }
}

async function mine() {
  const answer = await call("GET", `${base}/receipt`);
  if ([401, 404].includes(answer.status)) return verdict("", t("draw.no_place"));
  if (!answer.ok) return verdict("", sorry(answer));
  if (!answer.data.path) return verdict("", t("draw.mine_after"));
  const keys = await call("GET", `${root}/.well-known/jwks.json`);
  if (!keys.ok) return verdict("", sorry(keys));
  await check_mine(draw, answer.data, keys.data.keys);
  verdict("right", t("draw.mine_right", { arrival: count(answer.data.arrival), n: count(answer.data.number) }));
}

async function all() {
  const response = await fetch(`${base}/entries`, { headers: { accept: "application/octet-stream" } }).catch(() => null);
  if (!response?.ok) return verdict("", t(response ? "problem.busy" : "problem.offline"));
  await check_all(draw, new Uint8Array(await response.arrayBuffer()), progress);
  verdict("right", t("draw.all_right", { n: count(draw.entries) }));
}

/** The receipt as a file, for `stagedoor draw verify --receipt`. */
async function keep() {
  const answer = await call("GET", `${base}/receipt`);
  if (!answer.ok) return note("message", answer.status < 500 && answer.status ? t("draw.no_place") : sorry(answer));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answer.data)], { type: "application/json" }));
  link.download = `${sale}-${answer.data.arrival}.json`;
  link.click();
  // Some browsers fetch it a moment later.
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const actions = { mine, all, keep };
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.ariaDisabled === "true") return;
  for (const it of document.querySelectorAll("[data-do]")) it.ariaDisabled = "true";
  const action = actions[button.dataset.do];
  await (action === keep ? keep() : checked(action));
  for (const it of document.querySelectorAll("[data-do]")) it.ariaDisabled = null;
});

async function look() {
  const answer = await call("GET", base);
  if (answer.status === 404) return note("message", t("draw.none"));
  if (answer.ok) {
    draw = answer.data;
    note("message", "");
    render();
    if (draw.order) return;
  } else note("message", sorry(answer));
  setTimeout(look, jitter(answer.retry_ms || LOOK_MS));
}
look();
