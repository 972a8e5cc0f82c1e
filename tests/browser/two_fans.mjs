// Two fans before the same seats, each in a browser of her own: who wants the same seat at the same moment, and how soon
// one sees what the other has taken. Needs two logins; the variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, enter, join_queue, logins, open_browser, open_sale, run, texts_of } from "./fan.mjs";

const RACES = 4;
const TAKEN = 12;
const MEDIAN_MS = 250;
const WORST_MS = 400;

const t = await texts_of("ko");

/** Notes when answers and deltas reach the page, and when a seat's button in the list changes. Both browsers share a clock. */
function watch_page() {
  window.asked = [];
  window.heard = {};
  window.shown = {};
  const fetch_as_is = window.fetch;
  window.fetch = async (path, init) => {
    const answer = await fetch_as_is(path, init);
    if (init?.method !== "GET" && /\/holds/.test(path)) window.asked.push({ method: init.method, status: answer.status, at: Date.now() });
    return answer;
  };
  const Source = window.EventSource;
  window.EventSource = class extends Source {
    constructor(...args) {
      super(...args);
      this.addEventListener("delta", (event) => Object.entries(JSON.parse(event.data).seats).forEach(([guid, state]) => (window.heard[guid] = { state, at: Date.now() })));
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    const list = document.querySelector("#list_view");
    if (!list) return;
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const button = target.nodeType === 1 ? target.closest(".row button") : target.parentElement?.closest(".row button");
        if (button) window.shown[button.ariaLabel.split(",")[0]] = { text: button.lastChild.textContent, at: Date.now() };
      }
    }).observe(list, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["disabled"] });
  });
}

async function fan_at_the_seats(viewport, login) {
  const fan = await open_browser(viewport, "ko");
  await fan.page.addInitScript(watch_page);
  await open_sale(fan.page);
  await join_queue(fan.page, login);
  await enter(fan.page);
  await fan.page.click("[data-do=list]");
  return fan;
}

// Wheelchair places are asked about first.
const row_buttons = (page, section) => page.locator("#list_view details").nth(section).locator(".row button:not([aria-label*=휠체어])");

/** A section that both see with plenty of free seats side by side. */
async function open_section(fans) {
  const sections = fans[0].page.locator("#list_view details");
  for (let n = 0; n < (await sections.count()); n++) {
    for (const { page } of fans) await page.locator("#list_view details").nth(n).locator("summary").click();
    if ((await row_buttons(fans[0].page, n).and(fans[0].page.locator(":enabled")).count()) > 40) return n;
  }
  throw new Error("no section has 40 seats left");
}

async function give_back({ page }) {
  for (;;) {
    const left = await page.locator("#chosen button").count();
    if (!left) break;
    await page.locator("#chosen button").first().click();
    await page.waitForFunction((n) => document.querySelectorAll("#chosen li").length < n, left);
  }
  await page.waitForFunction(() => window.asked.at(-1)?.method === "DELETE" || !window.asked.length);
}

const hold_of = ({ page }) =>
  page.evaluate(async () => {
    const answer = await fetch("/v1/holds", { method: "GET" });
    return (await answer.json()).holds.flatMap(({ seats }) => seats);
  });

/** The same button in both browsers, pressed at the same millisecond. */
async function race(fans, section, at) {
  const label = await row_buttons(fans[0].page, section).nth(at).getAttribute("aria-label");
  for (const { page } of fans) await page.evaluate(() => (window.asked.length = 0));
  const moment = Date.now() + 400;
  await Promise.all(
    fans.map(({ page }) =>
      row_buttons(page, section)
        .nth(at)
        .evaluate((button, moment) => new Promise((done) => setTimeout(() => done(button.click()), moment - Date.now())), moment),
    ),
  );
  for (const { page } of fans) await page.waitForFunction(() => window.asked.length);
  const statuses = await Promise.all(fans.map(({ page }) => page.evaluate(() => window.asked.map(({ status }) => status))));
  const winners = statuses.filter((list) => list[0] === 201).length;
  check(winners === 1, `${label}: the answers are ${JSON.stringify(statuses)}`);
  const loser = fans[statuses.findIndex((list) => list[0] !== 201)];
  const winner = fans.find((fan) => fan !== loser);
  check(statuses[fans.indexOf(loser)].join() === "409", `the slower fan needs one answer and gets ${statuses[fans.indexOf(loser)]}`);
  await loser.page.locator("#alternatives[open]").waitFor();
  check((await loser.page.innerText("#alternatives_heading")) === t("seats.taken_heading"), "the dialog does not say what happened");
  const offers = loser.page.locator("#chips button");
  check((await offers.count()) > 0, "no alternative is offered");
  await offers.first().click();
  await loser.page.locator("#alternatives[open]").waitFor({ state: "detached" });
  await loser.page.waitForFunction(() => window.asked.at(-1).status === 201 && document.querySelectorAll("#chosen li").length === 1);
  const [won, instead] = [await hold_of(winner), await hold_of(loser)];
  check(won.length === 1 && instead.length === 1 && won[0] !== instead[0], `they hold ${won} and ${instead}`);
  for (const fan of fans) await give_back(fan);
}

/** How long after her answer the other fan's page has heard of it, and reads so. */
async function seen_after([taker, other], section, at) {
  const button = row_buttons(taker.page, section).nth(at);
  const name = (await button.getAttribute("aria-label")).split(",")[0];
  for (const { page } of [taker, other]) await page.evaluate(() => ((window.asked.length = 0), (window.heard = {}), (window.shown = {})));
  await button.click();
  await taker.page.waitForFunction(() => window.asked.some(({ status }) => status === 201));
  const answered = await taker.page.evaluate(() => window.asked[0].at);
  const [guid] = await hold_of(taker);
  await other.page.waitForFunction(([guid, name, taken]) => window.heard[guid]?.state === "held" && window.shown[name]?.text === taken, [guid, name, t("seats.state.taken")]);
  const [heard, shown] = await other.page.evaluate(([guid, name]) => [window.heard[guid].at, window.shown[name].at], [guid, name]);
  check(await row_buttons(other.page, section).nth(at).isDisabled(), `${name} can still be pressed`);
  await give_back(taker);
  await other.page.waitForFunction((name) => window.shown[name].text !== undefined && !document.querySelector(`[aria-label^="${name},"]`).disabled, name);
  return [heard - answered, shown - answered];
}

const worst = (list) => Math.max(...list);
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

await run(2, async function* () {
  const fans = await Promise.all([fan_at_the_seats("desktop", logins[0]), fan_at_the_seats("phone", logins[1])]);
  try {
    const section = await open_section(fans);
    yield [
      "same seat, same moment",
      async () => {
        for (let n = 0; n < RACES; n++) await race(fans, section, 4 + 3 * n);
        return `${RACES} times exactly one holds it, the other has an alternative with one tap`;
      },
    ];
    yield [
      "a taken seat shows as taken",
      async () => {
        const times = [];
        for (let n = 0; n < TAKEN; n++) times.push(await seen_after(n % 2 ? fans.toReversed() : fans, section, 3 + 2 * n));
        const [data, text] = [times.map(([heard]) => heard), times.map(([, shown]) => shown)];
        const figures = `data median ${median(data)} ms, worst ${worst(data)} ms; list median ${median(text)} ms, worst ${worst(text)} ms; ${TAKEN} seats`;
        for (const list of [data, text]) check(median(list) <= MEDIAN_MS && worst(list) <= WORST_MS, `slower than ${MEDIAN_MS} ms median or ${WORST_MS} ms worst: ${figures}`);
        return figures;
      },
    ];
    yield ["no complaints", async () => fans.forEach(({ complaints }) => check(!complaints.length, complaints.join("; ")))];
  } finally {
    for (const fan of fans) await fan.close();
  }
});
