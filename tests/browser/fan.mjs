// What the browser tests share: a fan with a browser of her own, and the way from the sale page to the seats.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const env = process.env;
export const base = env.STAGEDOOR_BASE?.replace(/\/$/, "");
export const logins = (env.STAGEDOOR_LOGINS ?? env.STAGEDOOR_LOGIN ?? "").split(",").filter(Boolean);
export const password = env.STAGEDOOR_PASSWORD;
export const wait_ms = 1000 * Number(env.STAGEDOOR_WAIT_S ?? 180);
export const shots = env.STAGEDOOR_SHOTS;
export const viewports = { desktop: { width: 1280, height: 800 }, phone: { width: 360, height: 740 } };
const locales = { ko: "ko-KR", en: "en-GB", ja: "ja-JP" };
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export function check(fact, message) {
  if (!fact) throw new Error(message);
}

/** The words of the pages, so that a test says what the fan should read. */
export async function texts_of(lang) {
  const words = JSON.parse(await readFile(new URL(`../../src/edge/pages/locales/${lang}.json`, import.meta.url)));
  return (key, values = {}) => {
    check(key in words, `${lang} has no text ${key}`);
    return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  };
}

/** Problems that belong to the journey: no entry yet, sign-in needed, seats taken, at capacity. */
const belongs = (message) => /status of 4(01|03|04|09)/.test(message.text()) && /\/v1\//.test(message.location().url);

/** A browser as a fan has it; `complaints` gathers what it finds wrong with the pages. */
export async function open_browser(viewport, lang, { cookies = true, args = [], ...more } = {}) {
  const profile = await mkdtemp(join(tmpdir(), "fan-"));
  if (!cookies) {
    await mkdir(join(profile, "Default"));
    await writeFile(join(profile, "Default", "Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
  }
  const launch = () => chromium.launchPersistentContext(profile, {
    executablePath: env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [...flags, ...args],
    viewport: viewports[viewport],
    hasTouch: viewport === "phone",
    locale: locales[lang],
    timezoneId: "Asia/Seoul",
    reducedMotion: "reduce",
    ...more,
  });
  // Chromium itself sometimes crashes while it starts on a busy machine; no page is open then.
  const context = await launch().catch((error) => (console.log(`the browser is started once more: ${error.message.split("\n")[0]}`), launch()));
  const page = context.pages()[0] ?? (await context.newPage());
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && !belongs(message) && complaints.push(`${message.text()} ${message.location().url}`));
  // Of this host only the service's part is asked for: under a path all else is the shop's.
  const own = new URL(`${base}/`);
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin === own.origin && !`${url.pathname}/`.startsWith(own.pathname) && request.resourceType() !== "document") complaints.push(`asked for ${url}`);
  });
  page.on("pageerror", (error) => complaints.push(error.stack ?? error.message));
  page.setDefaultTimeout(20000);
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, page, complaints, close };
}

export const view = (page, names) => page.locator(names.map((name) => `[data-view=${name}]:not([hidden])`).join(", "));

export async function open_sale(page) {
  if (env.STAGEDOOR_SALE) return page.goto(`${base}/sales/${env.STAGEDOOR_SALE}`);
  await page.goto(`${base}/`);
  await page.locator("#sales a").first().click();
}

/** From the sale page to a queue entry. */
export async function join_queue(page, login) {
  await view(page, ["join"]).waitFor({ timeout: wait_ms });
  await page.click("[data-view=join] [data-do=join]");
  await view(page, ["sign_in"]).waitFor();
  await page.fill("[name=login]", login);
  await page.fill("[name=password]", password);
  await page.click("#sign_in .go");
  await view(page, ["prequeue", "waiting", "called"]).waitFor();
}

/** From a queue entry to the seats. */
export async function enter(page) {
  await view(page, ["called"]).waitFor({ timeout: wait_ms });
  await page.click("[data-view=called] [data-do=enter]");
  await page.waitForURL("**/seats", { timeout: 60000 });
  await page.locator("#loading").waitFor({ state: "hidden" });
}

/** Runs the named parts one after the other and says how each went; the last line says how many passed and failed. */
export async function run(needed_logins, parts) {
  let passed = 0;
  let failed = 0;
  try {
    check(base, "STAGEDOOR_BASE is not set");
    check(password, "STAGEDOOR_PASSWORD is not set");
    check(logins.length >= needed_logins, `${needed_logins} logins are needed in STAGEDOOR_LOGINS, given are ${logins.length}`);
    for await (const [name, part] of parts()) {
      try {
        const figures = await part();
        passed += 1;
        console.log(`ok      ${name}${figures ? `: ${figures}` : ""}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED  ${name}: ${error.message}`);
      }
    }
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${error.message}`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}
