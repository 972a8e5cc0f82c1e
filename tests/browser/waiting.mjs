// The waiting page at phone size in every language. The server is real; status and position are made up here, so that every
// state is seen. See journey.mjs for the settings; logins are not needed.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { seat_chance } from "../../src/edge/pages/js/seat_chance.js";
import { base, check, open_browser, open_sale, run, shots, view } from "./fan.mjs";

const langs = ["ko", "en", "ja"];
const reasons = ["rate_lowered", "visit_limit_lowered", "all_seats_held", "only_wheelchair_spaces", "box_office_busy", "slower_than_forecast", "at_capacity"];

function a_status(version, changes = {}) {
  return {
    version,
    generated_at: new Date().toISOString(),
    phase: "on_sale",
    on_sale_starts_at: new Date(Date.now() - 600000).toISOString(),
    now_serving: 1000,
    numbers_issued: 9000,
    waiting: 7600,
    active_visits: 900,
    estimate: [[0, 1, 2, 5], [4000, 1500, 1800, 2400], [8000, 3000, 3700, 5000]],
    people_ahead: [[100, 100], [4000, 3700], [8000, 7600]],
    presence: { near_distance: 400, near_mask: 7, far_mask: 127, online: [[400, 90], [1600, 60], [8000, 40]] },
    zones: [
      { zone: "VIP", free: 12, held: 30, booked: 400, blocked: 0, available_to_distance: [10, 60, 200] },
      { zone: "R", free: 420, held: 120, booked: 900, blocked: 0, available_to_distance: [1800, 2500, 3300] },
      { zone: "S", free: 6100, held: 300, booked: 900, blocked: 0, available_to_distance: [null, null, null] },
      { zone: "A", free: 0, held: 20, booked: 900, blocked: 0 },
    ],
    late_arrival_percent: 20,
    forecast_accuracy: { hits: 806, total: 1000 },
    notice: null,
    reason: null,
    poll_interval_ms: { min: 300, max: 300 },
    ...changes,
  };
}

/** A page that waits with this number and reads `look.status`; `look.asked` lists its other requests. */
async function waiting(lang, number, sample, status) {
  const { page, complaints, close } = await open_browser("phone", lang);
  const look = { page, complaints, close, asked: [], status, version: 1 };
  const answer = (route, json) => route.fulfill({ json, headers: { date: new Date().toUTCString() } });
  await page.route("**/v1/**", (route) => {
    const request = route.request();
    const path = new URL(request.url()).pathname;
    if (path.endsWith("/status")) return answer(route, { ...look.status, version: (look.version += 1) });
    if (/\/queue\/|\/admission/.test(path)) look.asked.push(`${request.method()} ${path.split("/").pop()}`);
    if (path.endsWith("/heartbeat")) return answer(route, { next_after_ms: 1000 });
    if (path.endsWith("/position")) return answer(route, { state: "waiting", number, position: 1, ahead: 0, approximate: true, wait: null, poll_after_ms: 1000, call_ends_at: null, heartbeat_sample: sample });
    return route.continue();
  });
  // Heartbeats are spread over some seconds.
  await page.addInitScript(() => (Math.random = () => 0.01));
  await open_sale(page);
  await view(page, ["waiting"]).waitFor();
  await page.locator(".zones li").first().waitFor();
  return look;
}

const text = (page, selector) => page.locator(selector).first().innerText();
const ahead = (page) => text(page, "[data-fill=ahead]");
const becomes = (page, selector, wanted) => page.waitForFunction(([s, w]) => document.querySelector(s).textContent === w, [selector, wanted]);

async function photograph(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `waiting-${name}.png`), fullPage: true });
}

async function fits(page) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, `the page scrolls sideways by ${wide} px`);
  const small = await page.evaluate(() => [...document.querySelectorAll("[data-view=waiting] *")].filter((it) => it.innerText && parseFloat(getComputedStyle(it).fontSize) < 16).map((it) => it.outerHTML));
  check(!small.length, `too small to read: ${small}`);
}

async function everything_in(lang) {
  const it = await waiting(lang, 3700, 1, a_status(1));
  const { page } = it;
  await becomes(page, "[data-fill=ahead]", "2,499");
  check((await text(page, "[data-fill=about]")).length > 0, "it does not say that the number is about right");
  // 400 of 377 people at 90 %, the next 1200 at 60 %, the others at 40 %.
  const there = await text(page, "[data-view=waiting] .big + .soft");
  check(/1,400/.test(there), `of 2,499 people some 1,400 are there, not “${there}”`);
  const zones = page.locator(".zones li");
  check((await zones.count()) === 4, "there are not four zones");
  const chances = await zones.evaluateAll((rows) => rows.map((row) => row.className));
  check(chances.join() === "unlikely,uncertain,likely,", `chances are ${chances}`);
  await fits(page);
  await photograph(page, `${lang}-1-usual`);
  await page.click("#more summary");
  const more = await text(page, "#more details");
  check(/20/.test(more) && /8/.test(more), `neither the share of those who come back nor the waits foretold: “${more}”`);
  const said = new Set();
  for (const reason of reasons) {
    const before = [...said].pop() ?? "";
    it.status = a_status(2, { reason });
    await page.waitForFunction((old) => ![old, ""].includes(document.querySelector(".wait + .soft + .soft").textContent), before);
    said.add(await text(page, ".wait + .soft + .soft"));
  }
  check(said.size === reasons.length, `a reason has no words of its own: ${[...said].join(" | ")}`);
  await fits(page);
  await photograph(page, `${lang}-2-more`);
  it.status = a_status(3, { phase: "paused", estimate: [], reason: "paused" });
  await page.locator("#notice:not([hidden])").waitFor();
  check((await text(page, "#notice")).length > 5, "a pause says nothing");
  await photograph(page, `${lang}-3-paused`);
  check(!it.complaints.length, it.complaints.join("\n"));
  await it.close();
}

/** What is said of the seats and of the time, by the chance that a seat is left at this visitor's turn. */
async function chances_of_a_seat(lang) {
  const it = await waiting(lang, 3700, 1, a_status(1, { available_to_distance: [4000, 5000, 6000] }));
  const { page } = it;
  await becomes(page, "[data-fill=ahead]", "2,499");
  const wait = await text(page, "[data-fill=wait]");
  const line = page.locator(".wait + .soft");
  check(await line.isHidden(), `a likely seat needs no words: “${await line.textContent()}”`);
  it.status = a_status(2, { available_to_distance: [1000, 2000, 4000] });
  await page.waitForFunction(() => /40/.test(document.querySelector(".wait + .soft").textContent));
  check((await text(page, "[data-fill=wait]")) === wait, "the time is not said any more");
  await fits(page);
  await photograph(page, `${lang}-4-even-chance`);
  it.status = a_status(3, { available_to_distance: [500, 1000, 2000], estimate: [[0, 1, 2, 5], [2000, 800, 900, 1100]] });
  await page.waitForFunction(() => document.querySelector(".wait + .soft").textContent.length > 20 && !/\d/.test(document.querySelector(".wait + .soft").textContent));
  const said = await text(page, "[data-view=waiting] .wait");
  check(!/\d/.test(said), `a time is said though there may be no call: “${said}”`);
  await fits(page);
  await photograph(page, `${lang}-5-hardly-a-seat`);
  check(!it.complaints.length, it.complaints.join("\n"));
  await it.close();
}

async function the_chance_is_that_of_the_server() {
  // The values of the server's own test.
  const told = [0, 100, 101, 150, 200, 250, 300, 301].map((distance) => seat_chance([100, 200, 300], distance));
  check(told.join() === "90,90,80,70,50,40,20,10", `chances ${told}`);
  const open_ended = [seat_chance([null, null, null], 1e6), seat_chance([0, null, null], 5), seat_chance([0, 2, null], 5), seat_chance([0, 0, 0], 1)];
  check(open_ended.join() === "90,70,40,10", `chances ${open_ended}`);
  check(seat_chance(undefined, 5) === null, "unknown is not a chance");
}

async function others_leave() {
  const it = await waiting("en", 3700, 1, a_status(1));
  await becomes(it.page, "[data-fill=ahead]", "2,499");
  it.asked.length = 0;
  it.status = a_status(2, { people_ahead: [[100, 80], [4000, 2700], [8000, 6600]] });
  await becomes(it.page, "[data-fill=ahead]", "1,826");
  it.status = a_status(3, { now_serving: 3690, people_ahead: [[1, 1], [5, 1], [9, 5], [5310, 4000]] });
  await becomes(it.page, "[data-fill=ahead]", "5");
  check((await text(it.page, "[data-fill=about]")) === "", "near the front each place is told apart");
  check(!it.asked.length, `the page asked for its own position: ${it.asked}`);
  await it.close();
}

async function some_are_asked() {
  const asked = [];
  for (const [number, sample] of [[3700, 1], [3700, 8], [3700, 128], [1100, 8], [1100, 9]]) {
    const it = await waiting("en", number, sample, a_status(1));
    it.asked.length = 0;
    await it.page.waitForTimeout(4000);
    asked.push(it.asked.filter((what) => what === "PUT heartbeat").length);
    check(it.asked.every((what) => what === "PUT heartbeat"), `also asked: ${it.asked}`);
    await it.close();
  }
  check(asked.map((n) => n > 1).join() === "false,false,true,true,false", `calls in four seconds, told to call again after one: ${asked}`);
  return `calls ${asked}`;
}

/** Before the opening, who is not signed in is told to do it now. */
async function sign_in_is_quick_now(lang) {
  const { page, complaints, close } = await open_browser("phone", lang);
  let [phase, version] = ["scheduled", 1];
  await page.route("**/v1/sales/*/status", (route) => {
    const opens = new Date(Date.now() + 600000).toISOString();
    return route.fulfill({ json: a_status((version += 1), { phase, on_sale_starts_at: opens, estimate: [] }) });
  });
  await open_sale(page);
  const seen = new Set();
  for (const next of ["scheduled", "prequeue"]) {
    phase = next;
    const shown = view(page, [next === "scheduled" ? "scheduled" : "join"]);
    await shown.waitFor();
    const advice = shown.locator("p[data-when=guest], p[data-when=soon]");
    seen.add(await advice.innerText());
    check(await shown.locator("button.go").isVisible(), `no button leads on: ${next}`);
    await fits(page);
    await photograph(page, `${lang}-6-${next}`);
  }
  check(seen.size === 1 && [...seen][0].length > 15, `not the same advice: ${[...seen].join(" | ")}`);
  phase = "on_sale";
  await page.locator("[data-view=join] p[data-when=soon]").waitFor({ state: "hidden" });
  phase = "scheduled";
  await page.click("[data-view=scheduled] [data-do=sign_in]");
  await view(page, ["sign_in"]).waitFor();
  await page.evaluate(() => localStorage.setItem("sd_name", JSON.stringify("Hero")));
  await page.reload();
  await view(page, ["scheduled"]).waitFor();
  await page.locator("[data-view=scheduled] p[data-when=member]").waitFor();
  check(await page.locator("[data-view=scheduled] p[data-when=guest]").isHidden(), "who is signed in is told to sign in");
  check(!complaints.length, complaints.join("\n"));
  await close();
}

/** A visitor of the prequeue waits once the sale is open. */
async function it_opens() {
  const early = { phase: "prequeue", on_sale_starts_at: new Date(Date.now() + 60000).toISOString(), estimate: [], now_serving: 0, people_ahead: [[9000, 9000]] };
  const { page, close } = await open_browser("phone", "en");
  let status = a_status(1, early);
  let version = 1;
  await page.route("**/v1/**", (route) => {
    const path = new URL(route.request().url()).pathname;
    if (path.endsWith("/status")) return route.fulfill({ json: { ...status, version: (version += 1) } });
    if (path.endsWith("/position")) return route.fulfill({ json: { state: "prequeue", number: 3700, heartbeat_sample: 1 } });
    return route.continue();
  });
  await open_sale(page);
  await view(page, ["prequeue"]).waitFor();
  status = a_status(2);
  await view(page, ["waiting"]).waitFor();
  await close();
}

await run(0, async function* () {
  for (const lang of langs) yield [`everything in ${lang}`, () => everything_in(lang)];
  for (const lang of langs) yield [`advice to sign in early in ${lang}`, () => sign_in_is_quick_now(lang)];
  for (const lang of langs) yield [`the chance of a seat in ${lang}`, () => chances_of_a_seat(lang)];
  yield ["the page computes the server's chance", the_chance_is_that_of_the_server];
  yield ["a position shrinks when others leave, without a call", others_leave];
  yield ["only visitors in the sample send heartbeats", some_are_asked];
  yield ["an early visitor sees the position when the sale opens", it_opens];
});
