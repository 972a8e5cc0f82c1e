// A customer signs in at an OpenID provider and comes back; who gives up there comes back too, and another browser's state is
// refused. The provider is `oidc-provider`, which the OpenID Foundation has certified.
//
// Needs STAGEDOOR_BASE of a node whose shop.oidc is { issuer = OIDC_ISSUER, client_id = "tickets", client_secret =
// OIDC_SECRET }, and whose sale STAGEDOOR_SALE asks for a sign-in that takes no passwords.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import Provider from "oidc-provider";
import { base, check, open_browser, run, texts_of, view, wait_ms } from "./fan.mjs";

const { OIDC_ISSUER: issuer, OIDC_SECRET: secret, STAGEDOOR_SALE: sale } = process.env;
const sale_page = `${base}/sales/${sale}`;

const provider = new Provider(issuer, {
  clients: [{ client_id: "tickets", client_secret: secret, redirect_uris: [`${base}/v1/sign-in/oidc`], token_endpoint_auth_method: "client_secret_basic" }],
  claims: { openid: ["sub"], profile: ["name"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: "Kim & Lee" }) }),
});
const server = provider.listen(Number(new URL(issuer).port), "127.0.0.1");

async function to_provider(page) {
  await page.goto(sale_page);
  await view(page, ["join"]).waitFor({ timeout: wait_ms });
  await page.click("[data-view=join] [data-do=join]");
  await view(page, ["sign_in"]).waitFor();
  check((await page.locator("#sign_in [type=password]").count()) === 0, "there is a password field");
  await page.locator("#at_shop").click();
  await page.waitForURL((url) => url.origin === issuer);
}

async function signs_in(viewport, lang) {
  const { page, context, complaints, close } = await open_browser(viewport, lang);
  const t = await texts_of(lang);
  try {
    await to_provider(page);
    await page.fill("[name=login]", "4711");
    await page.fill("[name=password]", "any");
    await page.click("[type=submit]");
    await page.click("[type=submit]");
    await view(page, ["prequeue", "waiting", "called"]).waitFor();
    check(page.url() === sale_page, `the visitor is at ${page.url()}`);
    const hello = await page.locator("#who:not([hidden]) span").innerText();
    check(hello === t("sign_in.hello", { name: "Kim & Lee" }), `the page says “${hello}”`);
    const cookies = await context.cookies(base);
    check(!cookies.some(({ name }) => name.includes("sd_sign_in")), "the state is left");
    // The provider's own page asks for a font of the internet and has no icon.
    const ours = complaints.filter((complaint) => complaint.includes(base));
    check(!ours.length, ours.join("; "));
    return hello;
  } finally {
    await close();
  }
}

async function gives_up() {
  const { page, close } = await open_browser("phone", "ko");
  try {
    await to_provider(page);
    await page.click("a[href$='/abort']");
    await page.waitForURL((url) => url.origin === new URL(base).origin);
    await page.goto(sale_page);
    await view(page, ["join"]).waitFor({ timeout: wait_ms });
    return "back at the sale";
  } finally {
    await close();
  }
}

/** Two tabs leave for the provider: the cookie has the state of the later one. */
async function two_tabs(lang, said) {
  const { context, page, close } = await open_browser("phone", lang);
  try {
    await to_provider(page);
    const later = await context.newPage();
    await to_provider(later);
    for (const [tab, ends] of [[page, said], [later, null]]) {
      await tab.fill("[name=login]", "4711");
      await tab.fill("[name=password]", "any");
      await tab.click("[type=submit]");
      // The provider asks for consent once.
      if (ends) await tab.click("[type=submit]");
      await tab.waitForURL((url) => url.origin === new URL(base).origin);
      if (ends) await tab.locator("[role=alert]", { hasText: ends }).waitFor();
      else await view(tab, ["prequeue", "waiting", "called"]).waitFor();
    }
    return said;
  } finally {
    await close();
  }
}

async function refuses_a_foreign_state() {
  const { page, close } = await open_browser("phone", "en");
  try {
    await to_provider(page);
    const foreign = new URL(page.url());
    const answer = await fetch(`${base}/v1/sign-in/oidc?code=any&state=${foreign.searchParams.get("state") ?? "x"}`, { redirect: "manual" });
    check(answer.status === 401, `the status is ${answer.status}`);
    return "401";
  } finally {
    await close();
  }
}

/** The service was started before the provider, and looks for it every few seconds. */
async function until_discovered() {
  for (let tries = 0; tries < 300; tries += 1) {
    const answer = await fetch(`${base}/v1/sign-in/shop`, { redirect: "manual" });
    if (answer.status === 303) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error("the provider is not discovered");
}

try {
  await until_discovered();
  await run(0, async function* () {
    yield ["signs in (phone, Korean)", () => signs_in("phone", "ko")];
    yield ["signs in (desktop, English)", () => signs_in("desktop", "en")];
    yield ["comes back without signing in", gives_up];
    yield ["the earlier of two tabs says that it failed", () => two_tabs("ko", "쇼핑몰 로그인이 되지 않았습니다")];
    yield ["a state of another browser is refused", refuses_a_foreign_state];
  });
} finally {
  server.closeAllConnections();
  server.close();
}
