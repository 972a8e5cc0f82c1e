// One visitor in two sales at once, each in a tab of the same browser: every tab keeps its own queue entry, visit and
// basket, and both purchases are found together. Needs STAGEDOOR_BASE of a node whose sales without sign-in are `first` and
// `second`, which open a minute after the start, one after the other.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { base, check, open_browser, run, shots, texts_of, view, wait_ms } from "./fan.mjs";

const VISITORS = [
  ["desktop", "en"],
  ["phone", "ko"],
];
/** What pages say of seats in the other sale, and the link to them. */
const ELSEWHERE = {
  en: ["Seats kept for you in another sale: 2.", "Go there"],
  ko: ["다른 공연에서 고르신 좌석 2석을 잡아 두었습니다.", "보러 가기"],
};

const get = (page, path) => page.evaluate(async (path) => (await fetch(path)).json(), path);
const position = (page, sale) => get(page, `/v1/sales/${sale}/queue/position`);
const holds = async (page, sale) => (await get(page, "/v1/holds")).holds.filter((one) => one.sale === sale);

async function picture({ viewport }, page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `two-sales-${name}-${viewport}.png`), fullPage: true });
}

async function with_two_tabs([viewport, lang]) {
  const browser = await open_browser(viewport, lang);
  const first = browser.page;
  const second = await browser.context.newPage();
  second.setDefaultTimeout(20000);
  second.on("pageerror", (error) => browser.complaints.push(error.stack ?? error.message));
  return { ...browser, viewport, lang, first, second, t: await texts_of(lang) };
}

async function wait_in(page, sale) {
  await page.goto(`${base}/sales/${sale}`);
  await view(page, ["join"]).waitFor({ timeout: wait_ms });
  await page.click("[data-view=join] [data-do=join]");
  await view(page, ["prequeue"]).waitFor();
}

async function wait_in_both({ first, second }) {
  await wait_in(first, "first");
  await wait_in(second, "second");
  const [one, other] = [await position(second, "first"), await position(first, "second")];
  check(one.number && other.number, `the numbers are ${one.number} and ${other.number}`);
  return `numbers ${one.number} and ${other.number}`;
}

async function leave_one({ first, second }) {
  const kept = await position(first, "first");
  await second.locator("[data-do=ask_leave]:visible").click();
  await second.click("dialog[open] [value=leave]");
  await view(second, ["left"]).waitFor();
  const after = await position(second, "first");
  check(after.number === kept.number && after.state === "prequeue", `the other entry is ${after.state}`);
  await first.reload();
  await view(first, ["prequeue"]).waitFor();
  await second.click("[data-view=left] [data-do=join]");
  await view(second, ["prequeue"]).waitFor();
  const again = await position(first, "second");
  check(again.state === "prequeue", `the new entry is ${again.state}`);
}

async function choose_two(page, sale) {
  await page.locator("#zones button:not([disabled])").first().click();
  await page.locator("#chosen li").nth(1).waitFor();
  const [hold] = await holds(page, sale);
  check(hold?.seats.length === 2, `the hold is ${JSON.stringify(hold)}`);
  return hold;
}

/** The page tells of the other sale's seats, and its link leads to them. */
async function tells_of(fan, page, sale) {
  const [said, go] = ELSEWHERE[fan.lang];
  const strip = page.locator("#main .strip.good:not([hidden])").filter({ hasText: said });
  await strip.waitFor();
  check((await strip.count()) === 1, "the other sale's seats are told more than once");
  const link = strip.locator("a");
  check((await link.innerText()) === go, `the link reads “${await link.innerText()}”`);
  check((await link.getAttribute("href")) === `/sales/${sale}/seats`, `it leads to ${await link.getAttribute("href")}`);
}

/** A page whose visitor lets the call wait enters by itself. */
async function be_at_the_seats(page) {
  const timeout = wait_ms;
  const go = view(page, ["called", "missed", "admitted"]).locator("[data-do=enter]");
  await Promise.any([page.waitForURL("**/seats", { timeout }), go.click({ timeout }).then(() => page.waitForURL("**/seats"))]);
  await page.locator("#loading").waitFor({ state: "hidden" });
}

async function choose_in_both(fan) {
  const { first, second } = fan;
  await be_at_the_seats(first);
  const one = await choose_two(first, "first");
  await second.goto(`${base}/sales/second`);
  await view(second, ["prequeue", "waiting", "called", "admitted"]).waitFor();
  await tells_of(fan, second, "first");
  await picture(fan, second, "queue");
  await be_at_the_seats(second);
  check((await second.locator("#chosen li").count()) === 0, "the second sale's basket is not empty");
  await tells_of(fan, second, "first");
  await picture(fan, second, "seats");
  const other = await choose_two(second, "second");
  check(one.id !== other.id, "both tabs show one hold");
  await first.reload();
  await first.locator("#chosen li").nth(1).waitFor();
  await tells_of(fan, first, "second");
  await picture(fan, first, "both");
  check((await holds(first, "first"))[0]?.id === one.id, "the first hold is gone");
}

async function buy({ t }, page, sale) {
  await page.click("[data-do=checkout]");
  await page.click("#pay_button");
  await page.waitForURL(/\/orders\/[0-9a-f-]+$/);
  await page.waitForFunction((text) => document.querySelector("#state")?.textContent === text, t("order.state.paid"));
  const order = await get(page, `/v1${new URL(page.url()).pathname}`);
  check(order.sale === sale && order.state === "paid" && order.seats.length === 2, `the order is ${JSON.stringify(order)}`);
}

async function buy_the_second_first(fan) {
  const { first, second } = fan;
  await buy(fan, second, "second");
  check((await holds(first, "first")).length === 1, "the purchase ended the other hold");
  await first.reload();
  await first.locator("#chosen li").nth(1).waitFor();
  check((await first.locator("#main .strip.good:not([hidden])").count()) === 0, "bought seats are still told as kept");
  check(await first.locator("[data-do=checkout]").isEnabled(), "the other sale cannot be paid");
  await buy(fan, first, "first");
}

async function find_both(fan) {
  const { first, t } = fan;
  await first.goto(`${base}/orders`);
  await first.locator("#orders li.paid").nth(1).waitFor();
  check((await first.locator("#orders li").count()) === 2, "there are more than two orders");
  const titles = (await first.locator("#orders h2").allInnerTexts()).sort();
  check(titles.join() === "First Night,Second Night", `the orders are of ${titles}`);
  for (const button of await first.locator("#orders .button").allInnerTexts()) check(button === t("orders.to_tickets"), `the button reads “${button}”`);
  await picture(fan, first, "orders");
}

const PARTS = [
  ["an entry in each queue", wait_in_both],
  ["leaving one queue keeps the other entry", leave_one],
  ["a basket in each sale, told of in the other", choose_in_both],
  ["buying in one sale ends nothing in the other", buy_the_second_first],
  ["my tickets lists both", find_both],
  ["no complaints", async ({ complaints }) => check(!complaints.length, complaints.join("; "))],
];

await run(0, async function* () {
  const fans = [];
  try {
    for (const visitor of VISITORS) fans.push(await with_two_tabs(visitor));
    for (const [name, part] of PARTS) for (const fan of fans) yield [`${name} (${fan.lang}, ${fan.viewport})`, () => part(fan)];
  } finally {
    for (const fan of fans) await fan.close();
  }
});
