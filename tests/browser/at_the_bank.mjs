// A fan whose bank asks her to confirm comes back without doing so: another card for the same seats, and other seats.
// Needs two logins; the variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { join } from "node:path";
import { base, check, enter, join_queue, logins, open_browser, open_sale, run, shots, texts_of } from "./fan.mjs";

/** Two seats, paid with a card whose bank asks; gives the id of the order that waits for it. */
async function go_to_the_bank(page) {
  await page.locator("#zones button:enabled").first().click();
  await page.waitForFunction(() => document.querySelectorAll("#chosen li").length === 2);
  await page.click("[data-do=checkout]");
  await page.click("#cards summary");
  await page.check("[value=tok_redirect]");
  const [answer] = await Promise.all([page.waitForResponse((one) => one.url().endsWith("/v1/orders")), page.click("#pay_button")]);
  await page.waitForURL("**/page");
  return answer.headers().location.split("/").pop();
}

async function waiting_order(page, id, t) {
  await page.goto(`${base}/orders/${id}`);
  await page.locator("#to_bank").waitFor();
  check((await page.textContent("#state")) === t("order.state.awaiting_payment"), "the order does not wait");
  const [before, after] = t("order.limit", { time: "|" }).split("|");
  const limit = await page.textContent("#limit");
  check(limit.startsWith(before) && limit.endsWith(after) && /\d:\d\d/.test(limit), `no limit in “${limit}”`);
}

/** The order as the page knows it, once its state is final. */
async function ended(page, id, state) {
  const order = await page.waitForFunction(async ([id, state]) => {
    const order = await (await fetch(`/v1/orders/${id}`)).json();
    return order.state === state && order;
  }, [id, state]);
  return order.jsonValue();
}

async function with_a_fan(viewport, lang, login, part) {
  const t = await texts_of(lang);
  const { page, complaints, close } = await open_browser(viewport, lang);
  try {
    await open_sale(page);
    await join_queue(page, login);
    await enter(page);
    await part(page, t);
    // The sandbox bank's page has no icon.
    const own = complaints.filter((text) => !text.endsWith("/favicon.ico"));
    check(!own.length, `the browser complained:\n  ${own.join("\n  ")}`);
  } catch (error) {
    if (shots) await page.screenshot({ path: join(shots, `at-the-bank-${lang}-failed.png`), fullPage: true });
    throw error;
  } finally {
    await close();
  }
}

async function shoot(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, `the page scrolls sideways by ${wide} px`);
  if (shots) await page.screenshot({ path: join(shots, `at-the-bank-${name}.png`) });
}

async function another_card(page, t) {
  const id = await go_to_the_bank(page);
  await waiting_order(page, id, t);
  await shoot(page, "waiting");
  check((await page.getAttribute("#to_bank", "href")).endsWith("/page"), "no way to the bank");
  await page.click("#another_card");
  await page.waitForFunction(() => document.querySelectorAll("#chosen li").length === 2);
  await page.click("[data-do=checkout]");
  await page.check("[value=tok_ok]");
  await page.click("#pay_button");
  await page.waitForURL("**/orders/*");
  await page.locator(".ticket").nth(1).waitFor();
  check((await ended(page, id, "canceled")).reason === "replaced", "the first payment was not replaced");
  await page.goto(`${base}/orders/${id}`);
  await page.locator("#more").waitFor();
  check((await page.textContent("#text")) === t("order.text.replaced"), "the first order does not say why");
}

async function other_seats(page, t) {
  const id = await go_to_the_bank(page);
  await waiting_order(page, id, t);
  await page.click("#give_up");
  await shoot(page, "sure");
  await page.click("#give_up_sure [value=keep]");
  check(await page.isVisible("#give_up"), "it is gone although she keeps her seats");
  await page.click("#give_up");
  await page.click("#give_up_sure [value=cancel]");
  await page.waitForURL("**/seats");
  await page.locator("#loading").waitFor({ state: "hidden" });
  check(!(await page.isVisible("#basket")), "the seats are still in the basket");
  await page.goto(`${base}/orders/${id}`);
  await page.locator("#more").waitFor();
  check((await page.textContent("#text")) === t("order.text.canceled_before_payment"), "the order does not say why");
  check((await page.textContent("#more")) === t("order.choose_seats"), "no way to other seats");
  await page.click("#more");
  await page.waitForURL("**/seats");
}

await run(2, async function* () {
  yield ["another card for the same seats", () => with_a_fan("desktop", "en", logins[0], another_card)];
  yield ["other seats", () => with_a_fan("phone", "ko", logins[1], other_seats)];
});
