// What every page says, and the one step that leads on, in each state of session, sale and service; then the journeys
// of a fan whose tab, session or device changes in the middle. A page of the route table that is missing from the
// table below fails. Needs four logins; the variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { base, check, enter, join_queue, logins, open_browser, open_sale, password, run, shots, texts_of, view } from "./fan.mjs";

const NOT_PAGES = /^\/(openapi\.json|assets\/|favicon|robots)|\.svg$/;
const PHASES = ["paused", "sold_out", "closed"];
const STATES = ["signed_out", ...PHASES, "busy"];
const ORDER = "/orders/018f3c1a-7d2e-7c4b-9a51-3f6f2b1c0d9e";

/** Per page and state: the text that is said, and where the fan presses to go on; `null` where nothing needs pressing. */
const PAGES = {
  "/": {
    signed_out: ["#sales h2", null, "#sales a"],
    paused: [".phase", "home.phase.paused", "#sales a"],
    sold_out: [".phase", "home.phase.sold_out", "#sales a"],
    closed: [".phase", "home.phase.closed", "#sales a"],
    busy: ["#message", "problem.busy", null],
  },
  "/sales/{sale}": {
    signed_out: ["[data-view=join] h2", "sale.join_heading", "[data-view=join] [data-do=join]"],
    paused: ["#notice", "sale.paused_text", "[data-view=join] [data-do=join]"],
    sold_out: ["[data-view=sold_out] h2", "sale.sold_out_heading", "[data-view=sold_out] [data-do=join]"],
    closed: ["[data-view=closed] h2", "sale.closed_heading", "[data-view=closed] a"],
    busy: ["#offline", "sale.offline", null],
  },
  "/sales/{sale}/seats": {
    signed_out: ["#sign_in_heading", "sign_in.heading", "#sign_in .go"],
    paused: ["#news", "seats.paused", "[data-do=done]"],
    sold_out: ["#news", "seats.sold_out", "[data-do=done]"],
    closed: ["#news", "seats.closed", "[data-do=done]"],
    busy: ["#message", "problem.busy", null],
  },
  "/sales/{sale}/draw": {
    signed_out: ["#message", "draw.none", ".brand"],
    paused: ["#message", "draw.none", ".brand"],
    sold_out: ["#message", "draw.none", ".brand"],
    closed: ["#message", "draw.none", ".brand"],
    busy: ["#message", "problem.busy", null],
  },
  "/orders": {
    signed_out: ["#sign_in_heading", "sign_in.heading", "#sign_in .go"],
    paused: ["#none .lead", "orders.none", "#none a"],
    sold_out: ["#none .lead", "orders.none", "#none a"],
    closed: ["#none .lead", "orders.none", "#none a"],
    busy: ["#message", "problem.busy", null],
  },
  "/orders/{order}": {
    signed_out: ["#sign_in_heading", "sign_in.heading", "#sign_in .go"],
    paused: ["#state", "order.not_found", "#more"],
    sold_out: ["#state", "order.not_found", "#more"],
    closed: ["#state", "order.not_found", "#more"],
    busy: ["#message", "problem.busy", null],
  },
};

const problem = (status, type, headers = {}) => ({ status, headers, contentType: "application/problem+json", body: JSON.stringify({ type: `https://stagedoor.invalid/problems/${type}`, status }) });

/** The service in this state, as far as pages can tell. */
async function pretend(page, state) {
  if (state === "busy") return page.route("**/v1/**", (route) => route.fulfill(problem(503, "overloaded", { "retry-after": "5" })));
  const own = /\/v1\/(orders|holds)|\/(queue|admission)(\/|$)|\/seats$/;
  if (state === "signed_out") await page.route("**/v1/**", (route) => (own.test(new URL(route.request().url()).pathname) ? route.fulfill(problem(401, "sign-in-required")) : route.continue()));
  else {
    await page.route(/\/v1\/(orders|holds)(\?|$)/, (route) => route.fulfill({ json: { orders: [], holds: [] } }));
    await page.route("**/v1/orders/*", (route) => route.fulfill(problem(404, "not-found")));
    await page.route("**/v1/orders/*/history", (route) => route.fulfill(problem(404, "not-found")));
    await page.route(/\/performances\/[^/]+\/seats$/, (route) => route.fulfill(problem(503, "overloaded")));
    await page.route("**/admission", (route) => route.fulfill({ json: { pass: "p", expires_at: new Date(Date.now() + 600000).toISOString() } }));
  }
  const phase = PHASES.includes(state) ? state : "on_sale";
  const changed = async (route) => {
    const answer = await route.fetch();
    const json = await answer.json();
    for (const one of json.sales ?? [json]) one.phase = phase;
    await route.fulfill({ json });
  };
  await page.route(/\/v1\/sales(\/[^/]+(\/status)?)?$/, changed);
}

async function pages_of_the_table() {
  const routes = await readFile(new URL("../../src/edge/routes.rs", import.meta.url), "utf8");
  const paths = [...routes.matchAll(/Route::page\(\s*"([^"]+)"/g)].map(([, path]) => path).filter((path) => !NOT_PAGES.test(path));
  check(paths.length > 4, `only ${paths} were found in the table of routes`);
  const missing = paths.flatMap((path) => STATES.filter((state) => !PAGES[path]?.[state]).map((state) => `${path} ${state}`));
  check(!missing.length, `no word on what these say: ${missing}`);
  return `${paths.length} pages, ${STATES.length} states`;
}

async function sign_in_here(page, login) {
  await page.locator("#sign_in").waitFor();
  await page.fill("[name=login]", login);
  await page.fill("[name=password]", password);
  await page.click("#sign_in .go");
}

const lose_session = (fan) => fan.context.clearCookies({ name: "sd_session" });
const seats_in = (page) => page.locator("#chosen li").allInnerTexts();

async function picture(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** Two seats of the first zone that has them. */
async function choose_two(page) {
  await page.locator("#zones button:not([disabled])").first().click();
  await page.locator("#chosen li").nth(1).waitFor();
  return seats_in(page);
}

async function same_basket(page, seats) {
  await page.locator("#chosen li").nth(seats.length - 1).waitFor();
  const now = await seats_in(page);
  check(now.join() === seats.join(), `the basket was ${seats}, now it is ${now}`);
}

function states_of(lang, viewport, t, sale) {
  return Object.entries(PAGES).flatMap(([path, states]) =>
    STATES.map((state) => [
      `${path}, ${state} (${lang}, ${viewport})`,
      async () => {
        const fan = await open_browser(viewport, lang);
        try {
          await pretend(fan.page, state);
          await fan.page.goto(base + path.replace("{sale}", sale).replace("/orders/{order}", ORDER));
          const [said, key, button] = states[state];
          const line = fan.page.locator(said).first();
          await line.waitFor();
          if (key) await fan.page.waitForFunction(([where, text]) => document.querySelector(where)?.textContent.includes(text), [said, t(key)]);
          if (button) await fan.page.locator(button).first().waitFor();
          await picture(fan.page, `state-${path.replace(/\W+/g, "-")}-${state}-${viewport}`);
        } finally {
          await fan.close();
        }
      },
    ]),
  );
}

async function* journey(viewport, lang, login, other_login) {
  const t = await texts_of(lang);
  const fan = await open_browser(viewport, lang);
  let other;
  let { page } = fan;
  const named = (name) => `${name} (${lang}, ${viewport})`;
  try {
    yield [
      named("session over while waiting: the place stays, and going in asks to sign in"),
      async () => {
        await open_sale(page);
        await join_queue(page, login);
        await lose_session(fan);
        await view(page, ["called"]).waitFor({ timeout: 180000 });
        await page.click("[data-view=called] [data-do=enter]");
        await sign_in_here(page, login);
        await enter(page);
      },
    ];
    let seats;
    yield [
      named("session over while choosing: sign in over the map, and the wish is granted"),
      async () => {
        await lose_session(fan);
        await page.locator("#zones button:not([disabled])").first().click();
        await page.locator("#sign_in_dialog[open]").waitFor();
        await picture(page, `choosing-signed-out-${viewport}`);
        await sign_in_here(page, login);
        await page.locator("#chosen li").nth(1).waitFor();
        seats = await seats_in(page);
        check(await page.locator("#signed_out").isHidden(), "the page still asks to sign in");
      },
    ];
    yield [
      named("visit over with seats in the basket: they can still be paid for"),
      async () => {
        await page.route("**/admission", (route) => route.fulfill(problem(409, "visit-ended")));
        await page.reload();
        await page.waitForFunction((text) => document.querySelector("#message").textContent === text, t("seats.pay_only"));
        await same_basket(page, seats);
        check(await page.locator("[data-do=checkout]").isEnabled(), "the seats cannot be paid for");
        await picture(page, `visit-over-${viewport}`);
        await page.unroute("**/admission");
        await page.reload();
        await same_basket(page, seats);
      },
    ];
    yield [
      named("tab closed in the basket: the start page leads back to the same seats"),
      async () => {
        const next = await fan.context.newPage();
        await page.close();
        page = next;
        await page.goto(`${base}/`);
        await page.locator("main .strip.good a").first().click();
        await page.waitForURL("**/seats");
        await same_basket(page, seats);
      },
    ];
    yield [
      named("another device: signed in there, the same basket"),
      async () => {
        other = await open_browser(viewport === "phone" ? "desktop" : "phone", lang);
        await other.page.goto(`${base}/orders`);
        await sign_in_here(other.page, login);
        const back = other.page.locator("main .strip.good a").first();
        await back.waitFor();
        await picture(other.page, `orders-with-basket-${viewport}`);
        await back.click();
        await same_basket(other.page, seats);
        check(await other.page.locator("#message").isHidden(), "the visit goes on at the other device");
        await picture(other.page, `other-device-${viewport}`);
        await other.close();
        other = undefined;
      },
    ];
    yield [
      named("account closed at the shop: the page says so, and the seats stay"),
      async () => {
        await page.route("**/v1/orders", (route) => route.fulfill(problem(403, "account-inactive")));
        await page.click("[data-do=checkout]");
        await page.click("#pay_button");
        await page.waitForFunction((text) => document.querySelector("#pay_message").textContent === text, t("refusal.account-inactive"));
        const is_read = await page.locator("#pay_message").evaluate((node) => {
          const [own, dialog] = [node, node.closest("dialog")].map((it) => it.getBoundingClientRect());
          return own.top >= dialog.top && own.bottom <= dialog.bottom;
        });
        check(is_read, "the reason is not in sight");
        await picture(page, `account-closed-${viewport}`);
        await page.unroute("**/v1/orders");
        await page.keyboard.press("Escape");
        await same_basket(page, seats);
      },
    ];
    yield [
      named("session over while paying: sign in over the payment, and it is paid once"),
      async () => {
        await page.click("[data-do=checkout]");
        await lose_session(fan);
        await page.click("#pay_button");
        await page.locator("#sign_in_dialog[open]").waitFor();
        await sign_in_here(page, login);
        await page.waitForURL("**/orders/*");
        await page.locator(".ticket").nth(1).waitFor();
        check((await page.locator(".ticket").count()) === seats.length, "there is a ticket for each seat");
      },
    ];
    yield [
      named("session over while reading an order: sign in, and the tickets are there"),
      async () => {
        await lose_session(fan);
        await page.reload();
        await page.locator("#sign_in_dialog[open]").waitFor();
        check((await page.innerText("#state")) === t("order.signed_out"), "the page says that one has to sign in");
        await picture(page, `order-signed-out-${viewport}`);
        await sign_in_here(page, login);
        await page.locator(".ticket").nth(1).waitFor();
      },
    ];
    yield [
      named("my tickets: from the header of every page"),
      async () => {
        await page.goto(`${base}/`);
        await page.click("header .own");
        await page.locator("#orders li.paid a").first().waitFor();
        await picture(page, `orders-${viewport}`);
        await page.locator("#orders li.paid a").first().click();
        await page.locator(".ticket").first().waitFor();
      },
    ];
    yield [
      named("the same computer, another customer: nothing of the first is left"),
      async () => {
        await page.goto(`${base}/orders`);
        await page.click("#sign_out");
        await page.waitForURL(`${base}/`);
        await open_sale(page);
        await view(page, ["join", "sold_out"]).waitFor();
        await join_queue(page, other_login);
        await page.goto(`${base}/orders`);
        await page.locator("#none:not([hidden])").waitFor();
      },
    ];
  } finally {
    await fan.close();
    await other?.close();
  }
}

await run(4, async function* () {
  yield ["every page of the route table has its states", pages_of_the_table];
  const { sales } = await (await fetch(`${base}/v1/sales`)).json();
  for (const [lang, viewport] of [["ko", "phone"], ["en", "desktop"]]) yield* states_of(lang, viewport, await texts_of(lang), sales[0].id);
  yield* journey("phone", "ko", logins[0], logins[1]);
  yield* journey("desktop", "en", logins[2], logins[3]);
});
