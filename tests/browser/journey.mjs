// Walks the fan's journey in a real browser against a running server, as she would: from the sale page to tickets in hand.
//
//   STAGEDOOR_BASE       address of the public listener, for instance http://127.0.0.1:8080
//   STAGEDOOR_LOGINS     logins of the shop, separated by commas, one for each walk (a customer has one queue entry and a limit of seats)
//   STAGEDOOR_PASSWORD   their password
//   STAGEDOOR_SALE       the sale's id; the first one on the start page without it
//   STAGEDOOR_VIEWPORTS  default "desktop,phone"
//   STAGEDOOR_LANGS      default "ko,en"
//   STAGEDOOR_SHOTS      folder for screenshots; none are taken without it
//   STAGEDOOR_WAIT_S     longest wait for the sale to open and the call to come, default 180
//   CHROMIUM             default /usr/bin/chromium
//
// The last line says how many walks passed and failed; the exit code is 1 when one failed.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { base, check, logins, open_browser, shots, texts_of, view, wait_ms } from "./fan.mjs";

const env = process.env;

async function walk(viewport, lang, login) {
  const t = await texts_of(lang);
  const { page, complaints, close } = await open_browser(viewport, lang);

  let number = 0;
  let step = "start";
  async function at(name) {
    step = name;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(wide <= 0, `the page scrolls sideways by ${wide} px`);
    const says = await page.getAttribute("html", "lang");
    check(says === lang, `the page is in ${says}`);
    number += 1;
    if (shots) await page.screenshot({ path: join(shots, `${viewport}-${lang}-${String(number).padStart(2, "0")}-${name}.png`) });
  }
  async function reads(selector, text) {
    const seen = await page.locator(selector).first().innerText();
    check(seen.includes(text), `${selector} should read “${text}” and reads “${seen}”`);
  }

  try {
    await page.goto(`${base}/`);
    await page.locator("#sales a").first().waitFor();
    await reads("h1", t("home.heading"));
    await at("home");
    if (env.STAGEDOOR_SALE) await page.goto(`${base}/sales/${env.STAGEDOOR_SALE}`);
    else await page.locator("#sales a").first().click();

    step = "join";
    await view(page, ["join"]).waitFor({ timeout: wait_ms });
    await reads("[data-view=join] h2", t("sale.join_heading"));
    await at("join");
    await page.click("[data-view=join] [data-do=join]");

    step = "sign in";
    await view(page, ["sign_in"]).waitFor();
    await reads("[data-view=sign_in] h2", t("sign_in.heading"));
    await at("sign-in");
    await page.fill("[name=login]", login);
    await page.fill("[name=password]", `not ${env.STAGEDOOR_PASSWORD}`);
    await page.click("#sign_in .go");
    await page.locator("#sign_in_error:not([hidden])").waitFor();
    const wrong = { ko: "비밀번호가 맞지 않습니다", en: "password is not right" }[lang];
    check((await page.innerText("#sign_in_error")).includes(wrong), "a wrong password is called wrong");
    await page.fill("[name=password]", env.STAGEDOOR_PASSWORD);
    await page.click("#sign_in .go");

    step = "wait";
    await view(page, ["prequeue", "waiting", "called"]).waitFor();
    if (await view(page, ["waiting"]).isVisible()) await reads("[data-view=waiting] h2", t("sale.ahead_label"));
    await at("waiting");
    step = "a reload keeps the position";
    const [position] = await Promise.all([page.waitForResponse((answer) => answer.url().endsWith("/queue/position")), page.reload()]);
    check(position.status() === 200, `after a reload the position answers ${position.status()}`);
    await view(page, ["prequeue", "waiting", "called"]).waitFor();

    step = "called";
    await view(page, ["called"]).waitFor({ timeout: wait_ms });
    await reads("[data-view=called] h2", t("sale.called_heading"));
    check((await page.title()) === t("sale.called_title"), "the title does not say that she is called");
    await at("called");
    await page.click("[data-view=called] [data-do=enter]");

    step = "seats";
    await page.waitForURL("**/seats", { timeout: 60000 });
    await page.locator("#loading").waitFor({ state: "hidden" });
    await reads("h1", t("seats.heading"));
    await at("seats");
    if (viewport === "desktop") await choose_from_list(page);
    else await page.locator("#zones button:enabled").first().click();
    await page.waitForFunction(() => document.querySelectorAll("#chosen li").length === 2 && document.querySelector("#hold_clock").textContent);
    await reads("#basket .go", t("seats.to_payment"));
    await at("basket");

    step = "payment";
    await page.click("[data-do=checkout]");
    await reads("#checkout_heading", t("pay.heading"));
    await page.check("[value=tok_ok]");
    await at("payment");
    await page.click("#pay_button");

    step = "tickets";
    await page.waitForURL("**/orders/*", { timeout: 60000 });
    await page.locator(".ticket img").nth(1).waitFor({ timeout: 30000 });
    await page.waitForFunction(() => [...document.querySelectorAll(".ticket img")].every((image) => image.complete && image.naturalWidth > 0));
    await reads("#state", t("order.state.paid"));
    await reads(".ticket figcaption", t("order.show"));
    check((await page.locator(".ticket").count()) === 2, "there are not two tickets");
    check((await page.locator("#steps li").count()) > 0, "the order tells no steps");
    await at("tickets");
    check(!complaints.length, `the browser complained:\n  ${complaints.join("\n  ")}`);
  } catch (error) {
    if (shots) await page.screenshot({ path: join(shots, `${viewport}-${lang}-failed.png`), fullPage: true }).catch(() => {});
    throw new Error(`at “${step}” (${page.url()}): ${error.message}${complaints.length ? `\n  console: ${complaints.join("\n  ")}` : ""}`);
  } finally {
    await close();
  }
}

/** As somebody does who likes a list better, or hears the page: a section with seats left, then two free seats one by one. */
async function choose_from_list(page) {
  await page.click("[data-do=list]");
  const sections = page.locator("#list_view details");
  for (let i = 0; i < (await sections.count()); i++) {
    await sections.nth(i).locator("summary").click();
    const free = sections.nth(i).locator(".row button:enabled[aria-pressed=false]:not([aria-label*=휠체어]):not([aria-label*=heelchair])");
    if ((await free.count()) < 2) continue;
    for (const chosen of [1, 2]) {
      await free.first().click();
      await page.waitForFunction((n) => document.querySelectorAll("#chosen li").length === n, chosen);
    }
    return;
  }
  throw new Error("no section has two seats left");
}

const walks = (env.STAGEDOOR_VIEWPORTS ?? "desktop,phone").split(",").flatMap((viewport) => (env.STAGEDOOR_LANGS ?? "ko,en").split(",").map((lang) => [viewport, lang]));
let passed = 0;
let failed = 0;
try {
  check(base, "STAGEDOOR_BASE is not set");
  check(env.STAGEDOOR_PASSWORD, "STAGEDOOR_PASSWORD is not set");
  check(logins.length >= walks.length, `${walks.length} walks need as many logins in STAGEDOOR_LOGINS, given are ${logins.length}`);
  if (shots) await mkdir(shots, { recursive: true });
  for (const [i, [viewport, lang]] of walks.entries()) {
    try {
      await walk(viewport, lang, logins[i]);
      passed += 1;
      console.log(`ok      ${viewport} ${lang}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${viewport} ${lang} ${error.message}`);
    }
  }
} catch (error) {
  failed += 1;
  console.log(`FAILED  ${error.message}`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
