// A customer signs in at a shop on another registrable domain and comes back, by a form and by a code, and other sites cannot
// do the same to a visitor. The shop is the sample for Node; both sites are served over TLS.
//
// Needs STAGEDOOR_BASE of a node (plain HTTP) whose server.public_base is STAGEDOOR_TICKETS, whose shop.handoff.sign_in_url
// is STAGEDOOR_SHOP/hand-over (a host under `.test`, which the browser takes for this machine), whose hand-off secret is HANDOFF_SECRET, and whose sale STAGEDOOR_SALE asks for a sign-in
// that takes no passwords.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, mkdir, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:https";
import { createServer as listen } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { base, check, open_browser, run, shots, texts_of, view, wait_ms } from "./fan.mjs";

const { STAGEDOOR_TICKETS: tickets, STAGEDOOR_SHOP: shop, STAGEDOOR_SALE: sale, HANDOFF_SECRET } = process.env;
const port_of = (url) => Number(new URL(url).port);
const sale_page = `${tickets}/sales/${sale}`;
const RETURN = "/v1/sign-in/return";
/** Under a path of a host the names of cookies begin differently. */
const root = new URL(tickets).pathname.replace(/\/$/, "");
const prefix = root ? "__Secure-" : "__Host-";

const free_port = () => new Promise((found) => {
  const probe = listen().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => found(port));
  });
});

/** Which of the sample's ways the shop's page takes. */
let way = "by-form";
const folder = await mkdtemp(join(tmpdir(), "shop-"));
const [key, cert] = ["key.pem", "cert.pem"].map((name) => join(folder, name));
execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test", "-keyout", key, "-out", cert], { stdio: "ignore" });
const tls = { key: await readFile(key), cert: await readFile(cert) };

/** Serves a plain server over TLS; `path_of` may change what is asked for. */
function front(port, upstream, path_of = (path) => path) {
  const server = createServer(tls, (incoming, outgoing) => {
    const { hostname, port } = new URL(upstream);
    const asked = request({ hostname, port, path: path_of(incoming.url), method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(outgoing);
    });
    asked.on("error", () => outgoing.destroy());
    incoming.pipe(asked);
  });
  return server.listen(port, "127.0.0.1");
}

/** Another site: its page sends a form to the service. */
const forged = { token: "", state: "" };
const other_port = await free_port();
const other_site = createServer(tls, (_, answer) => {
  answer.writeHead(200, { "content-type": "text/html", "referrer-policy": "strict-origin" });
  answer.end(`<form method="post" action="${tickets}${RETURN}"><input name="token" value="${forged.token}"><input name="state" value="${forged.state}"></form><script>document.forms[0].submit()</script>`);
}).listen(other_port, "127.0.0.1");
const other = `https://other-site.test:${other_port}`;

const sample_port = await free_port();
const sample = spawn("node", [new URL("../../config/shops/samples/handoff.mjs", import.meta.url).pathname], {
  env: { ...process.env, TICKETS: tickets, HANDOFF_SECRET, PORT: String(sample_port), NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_NO_WARNINGS: "1" },
  stdio: ["ignore", "inherit", "inherit"],
});
const fronts = [front(port_of(tickets), base), front(port_of(shop), `http://127.0.0.1:${sample_port}`, (path) => path.replace("/hand-over", `/${way}`))];

const browser_of = (viewport, lang) => open_browser(viewport, lang, { args: ["--host-resolver-rules=MAP *.test 127.0.0.1"], ignoreHTTPSErrors: true });

async function to_sign_in(page) {
  await page.goto(sale_page);
  await view(page, ["join"]).waitFor({ timeout: wait_ms });
  await page.click("[data-view=join] [data-do=join]");
  await view(page, ["sign_in"]).waitFor();
}

async function picture(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `shop-sign-in-${name}.png`), fullPage: true });
}

/** The Set-Cookie line of the state, as the browser was sent it. */
function state_cookie(page) {
  return new Promise((found) => {
    page.on("response", async (response) => {
      if (new URL(response.url()).pathname !== `${root}/v1/sign-in/shop`) return;
      const lines = (await response.headersArray()).filter(({ name }) => name.toLowerCase() === "set-cookie");
      found(lines.map(({ value }) => value).find((value) => value.includes("sd_sign_in")));
    });
  });
}

const signed_in = async (page) => (await page.evaluate(async (path) => (await fetch(path)).status, `${root}/v1/orders`)) === 200;

async function signs_in(by, viewport, lang) {
  way = by;
  const browser = await browser_of(viewport, lang);
  const { page, context, complaints } = browser;
  const t = await texts_of(lang);
  try {
    await to_sign_in(page);
    await picture(page, `${by}-${lang}-${viewport}`);
    const link = page.locator("#at_shop");
    check((await link.innerText()) === t("sign_in.at_shop", { shop: "Hero Shop" }), `the link says “${await link.innerText()}”`);
    check((await page.locator("#sign_in [type=password]").count()) === 0, "there is a password field");
    for (const path of ["/new-account"]) check((await page.locator(`#sign_in a[href="${shop}${path}"]`).count()) === 1, `no link to ${path}`);
    const cookie = state_cookie(page);
    await link.click();
    await view(page, ["prequeue", "waiting", "called"]).waitFor();
    check(page.url() === sale_page, `the visitor is at ${page.url()}`);
    const hello = await page.locator("#who:not([hidden]) span").innerText();
    check(hello === t("sign_in.hello", { name: "Kim & Lee" }), `the page says “${hello}”`);
    const line = await cookie;
    for (const part of [`${prefix}sd_sign_in=`, `Path=${root || "/"};`, "SameSite=None", "Secure", "HttpOnly", "Max-Age=600"]) check(line?.includes(part), `${part} is missing in ${line}`);
    const cookies = await context.cookies(tickets);
    check(!cookies.some(({ name }) => name.includes("sd_sign_in")), "the state is left");
    for (const { name, sameSite, secure } of cookies.filter(({ name }) => name.startsWith(prefix))) check(sameSite === "Lax" && secure, `${name} is ${sameSite}`);
    check(cookies.some(({ name }) => name === `${prefix}sd_session`), "no session");
    check(!complaints.length, complaints.join("; "));
    return hello;
  } finally {
    await browser.close();
  }
}

/** What a visitor sees whom another site, or a link, leads to the return address. */
async function is_refused(status, lead) {
  way = "by-form";
  const browser = await browser_of("desktop", "en");
  const { page } = browser;
  try {
    await to_sign_in(page);
    const answered = page.waitForResponse((response) => new URL(response.url()).pathname === root + RETURN);
    await lead(page);
    const answer = await answered;
    check(answer.status() === status, `the answer is ${answer.status()}`);
    await page.locator(".code").waitFor();
    check((await page.locator(".code").innerText()) === String(status), "no page for people");
    await page.goto(sale_page);
    check(!(await signed_in(page)), "the visitor is signed in");
  } finally {
    await browser.close();
  }
}

/** A valid token as the shop's page has it, and what it was opened with. */
async function token_of_shop(state) {
  const html = await (await fetch(`http://127.0.0.1:${sample_port}/by-form?state=${state}`)).text();
  return html.match(/name="token" value="([^"]+)"/)[1];
}

async function until_sample_serves() {
  for (let tries = 0; tries < 100; tries += 1) {
    if (await fetch(`http://127.0.0.1:${sample_port}/`).catch(() => null)) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error("the sample does not serve");
}

try {
  await until_sample_serves();
  await run(0, async function* () {
    yield ["a form of the shop (desktop, English)", () => signs_in("by-form", "desktop", "en")];
    yield ["a form of the shop (phone, Korean)", () => signs_in("by-form", "phone", "ko")];
    yield ["a code (phone, Japanese)", () => signs_in("by-code", "phone", "ja")];
    yield [
      "back to the own tickets, where a sign-in was needed",
      async () => {
        way = "by-code";
        const { page, complaints, close } = await browser_of("phone", "en");
        try {
          await page.goto(`${tickets}/orders`);
          await page.locator("dialog[open] #at_shop").click();
          await page.locator("#who:not([hidden])").waitFor();
          check(page.url() === `${tickets}/orders`, `the visitor is at ${page.url()}`);
          check((await page.locator("#who span").innerText()).includes("Kim & Lee"), "the page greets another name");
          check((await page.locator("dialog[open]").count()) === 0, "the page asks to sign in again");
          check(!complaints.length, complaints.join("; "));
        } finally {
          await close();
        }
      },
    ];
    yield [
      "another site's form is refused, whatever it knows",
      () =>
        is_refused(403, async (page) => {
          const { headers } = await new Promise((found, fail) => request(`${base}${root}/v1/sign-in/shop`, found).on("error", fail).end());
          forged.state = new URL(headers.location).searchParams.get("state");
          forged.token = await token_of_shop(forged.state);
          await page.goto(other);
        }),
    ];
    yield ["the shop's own form is refused where the visitor began no sign-in", () => is_refused(401, (page) => page.goto(`${shop}/hand-over?state=of-another-visitor`))];
    yield ["a link with another visitor's code is refused", () => is_refused(401, (page) => page.goto(`${tickets}${RETURN}?code=x&state=y`))];
    yield [
      "a link cannot name the visitor",
      async () => {
        const browser = await browser_of("desktop", "en");
        try {
          await browser.page.goto(`${sale_page}#signed_in=Somebody%20else`);
          await view(browser.page, ["join"]).waitFor({ timeout: wait_ms });
          check(await browser.page.locator("#who").isHidden(), "the page greets a name from the link");
        } finally {
          await browser.close();
        }
      },
    ];
  });
} finally {
  sample.kill();
  for (const server of [...fronts, other_site]) {
    server.closeAllConnections();
    server.close();
  }
  await rm(folder, { recursive: true, force: true });
}
