// A browser that refuses cookies is told so, instead of losing every place and every session in silence. Needs
// STAGEDOOR_BASE, STAGEDOOR_LOGINS and STAGEDOOR_PASSWORD.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, logins, open_browser, open_sale, password, run, view, wait_ms } from "./fan.mjs";

/** What the page says about cookies, by language. */
const says = { ko: "쿠키", en: "refuses cookies", ja: "クッキー" };

const requests = (page, path) => {
  const seen = [];
  page.on("request", (request) => request.method() === "POST" && new URL(request.url()).pathname.endsWith(path) && seen.push(request.url()));
  return seen;
};

async function reads(page, selector, text) {
  await page.locator(`${selector}:not([hidden])`).waitFor();
  const seen = await page.locator(selector).innerText();
  check(seen.includes(text), `${selector} should speak of “${text}” and reads “${seen}”`);
}

await run(1, async function* () {
  for (const lang of Object.keys(says)) {
    yield [
      `refused cookies: no place is taken (${lang})`,
      async () => {
        const fan = await open_browser("phone", lang, { cookies: false });
        try {
          const joins = requests(fan.page, "/queue");
          await open_sale(fan.page);
          for (const again of [false, true]) {
            if (again) await fan.page.reload();
            await view(fan.page, ["join"]).waitFor({ timeout: wait_ms });
            await fan.page.click("[data-view=join] [data-do=join]");
            await reads(fan.page, "#message", says[lang]);
          }
          check(joins.length === 0, `places were asked for: ${joins}`);
          check(!fan.complaints.length, fan.complaints.join("; "));
        } finally {
          await fan.close();
        }
      },
    ];
  }
  yield [
    "a session that is not kept: the form says why, once",
    async () => {
      const fan = await open_browser("desktop", "en");
      const { page } = fan;
      try {
        const sign_ins = requests(page, "/v1/sign-in");
        // As behind a proxy that drops Set-Cookie.
        await page.route("**/v1/sign-in", (route) => route.fulfill({ json: { token: "t", expires_at: "2030-01-01T00:00:00Z", customer: { name: "Fan" } } }));
        await open_sale(page);
        await view(page, ["join"]).waitFor({ timeout: wait_ms });
        await page.click("[data-view=join] [data-do=join]");
        await view(page, ["sign_in"]).waitFor();
        await page.fill("[name=login]", logins[0]);
        await page.fill("[name=password]", password);
        await page.click("#sign_in .go");
        await reads(page, "#sign_in_error", says.en);
        check(sign_ins.length === 1, `${sign_ins.length} sign-ins`);
      } finally {
        await fan.close();
      }
    },
  ];
});
