// A visit under a path of the shop's host: pages and scripts ask for nothing outside the path, cookies go no further than it,
// and the shop beside it sees none of them. The shop is served here; it passes the path on to the node as nginx would.
//
// Needs STAGEDOOR_BASE, the address of the path (http://127.0.0.1:PORT/tickets), STAGEDOOR_NODE, the demo behind it, and two
// logins; the other variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { mkdir } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { join } from "node:path";
import { base, check, enter, join_queue, logins, open_browser, open_sale, run, shots, texts_of } from "./fan.mjs";

const { origin, pathname: path, port, hostname } = new URL(base);
const node = new URL(process.env.STAGEDOOR_NODE);
const BASKET = "basket=7";
let seen = [];

function answer(incoming, outgoing) {
  if (incoming.url.startsWith(`${path}/`)) {
    const { method, url, headers } = incoming;
    const passed = ask({ host: node.hostname, port: node.port, method, path: url, headers }, (response) => {
      outgoing.writeHead(response.statusCode, response.headers);
      response.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    return incoming.pipe(passed);
  }
  seen.push({ url: incoming.url, cookie: incoming.headers.cookie ?? "" });
  outgoing.writeHead(200, { "content-type": "text/html", "set-cookie": `${BASKET}; Path=/` });
  outgoing.end("<!doctype html><link rel=icon href=data:,><title>shop</title>");
}

async function visit(viewport, lang, login) {
  const t = await texts_of(lang);
  const { page, context, complaints, close } = await open_browser(viewport, lang);
  let number = 0;
  const shot = async (name) => shots && page.screenshot({ path: join(shots, `path-${viewport}-${lang}-${(number += 1)}-${name}.png`) });
  const failed = [];
  page.on("response", (response) => response.status() >= 400 && !/\/v1\//.test(response.url()) && failed.push(`${response.status()} ${response.url()}`));
  seen = [];
  try {
    await page.goto(`${origin}/`);
    await page.goto(`${base}/`);
    await page.locator("#sales a").first().waitFor();
    await shot("home");
    await open_sale(page);
    await join_queue(page, login);
    await shot("queue");
    await enter(page);
    await page.locator("#zones button:enabled").first().click();
    await page.waitForFunction(() => document.querySelectorAll("#chosen li").length === 2 && document.querySelector("#hold_clock").textContent);
    await shot("seats");
    await page.click("[data-do=checkout]");
    await page.check("[value=tok_ok]");
    await page.click("#pay_button");
    await page.waitForURL(`${base}/orders/*`);
    await page.locator(".ticket img").nth(1).waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll(".ticket img")].every((image) => image.complete && image.naturalWidth > 0));
    check((await page.innerText("#state")).includes(t("order.state.paid")), "the order is not paid");
    await shot("tickets");

    // By links only, as a visitor goes about.
    await page.click(".own");
    await page.waitForURL(`${base}/orders`);
    await page.locator("#orders a").first().click();
    await page.waitForURL(`${base}/orders/*`);
    await page.click("nav [hreflang=ja]");
    await page.waitForURL(/lang=ja$/);
    await page.click(".brand");
    await page.waitForURL(`${base}/`);
    check((await page.getAttribute("html", "lang")) === "ja", "the language is not kept");
    const own = (await context.cookies()).filter(({ name }) => name.startsWith("sd_"));
    check(own.length >= 3 && own.every((cookie) => cookie.path === path), `cookies: ${JSON.stringify(own)}`);
    await page.goto(`${base}/orders`);
    await page.click("#sign_out");
    await page.waitForURL(`${base}/`);
    await page.goto(`${base}/nothing`);
    await shot("missing");
    await page.click("main a");
    await page.waitForURL(`${base}/`);
    check(!complaints.filter((text) => !text.includes("/nothing")).length, `the browser complained:\n  ${complaints.join("\n  ")}`);
    check(failed.length === 1 && failed[0].endsWith("/nothing"), `not found: ${failed}`);

    await page.goto(`${origin}/account`);
    check(seen.map(({ url }) => url).join() === "/,/account", `the shop was asked for ${JSON.stringify(seen)}`);
    check((await context.cookies()).every(({ name }) => !/session|queue|pass/.test(name)), "signing out left cookies");
    check(seen[1].cookie === BASKET, `the shop got the cookies ${seen[1].cookie}`);
    return `${own.length} cookies`;
  } catch (error) {
    if (shots) await page.screenshot({ path: join(shots, `path-${viewport}-${lang}-failed.png`), fullPage: true }).catch(() => {});
    throw new Error(`${page.url()}: ${error.message}${complaints.length ? `\n  console: ${complaints.join("\n  ")}` : ""}`);
  } finally {
    await close();
  }
}

const server = createServer(answer);
await run(2, async function* () {
  if (shots) await mkdir(shots, { recursive: true });
  await new Promise((done) => server.listen(Number(port), hostname, done));
  yield ["a phone", () => visit("phone", "ko", logins[0])];
  yield ["a wide window", () => visit("desktop", "en", logins[1])];
});
server.closeAllConnections();
server.close();
