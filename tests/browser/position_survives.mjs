// A queue entry outlives what happens to a phone: a refresh, a locked screen, a tunnel, a closed page, another
// device. Needs one login and a sale that is about to open; the variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, join_queue, logins, open_browser, open_sale, run, texts_of, view } from "./fan.mjs";

const t = await texts_of("ko");
const READABLE = ["prequeue", "waiting", "called", "admitted"];

/** The position, requested as the page does. */
const position = (page) =>
  page.evaluate(async () => {
    const answer = await fetch(`/v1/sales/${location.pathname.split("/")[2]}/queue/position`);
    return { status: answer.status, ...(await answer.json()) };
  });

await run(1, async function* () {
  const phone = await open_browser("phone", "ko");
  let other;
  let { page } = phone;
  try {
    let number;
    const same = async (page) => {
      const now = await position(page);
      check(now.status === 200 && now.number === number, `her number was ${number}, now the answer is ${JSON.stringify(now)}`);
    };
    yield [
      "a number",
      async () => {
        await open_sale(page);
        await join_queue(page, logins[0]);
        number = (await position(page)).number;
        check(Number.isInteger(number) && number > 0, `the number is ${number}`);
        return `number ${number}`;
      },
    ];
    yield [
      "refresh",
      async () => {
        for (let n = 0; n < 3; n++) {
          await page.reload();
          await view(page, READABLE).waitFor();
          await same(page);
        }
      },
    ];
    yield [
      "sleep",
      async () => {
        const cdp = await phone.context.newCDPSession(page);
        await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
        await new Promise((done) => setTimeout(done, 3000));
        const asked = page.waitForResponse((answer) => /\/queue(\/position)?$/.test(new URL(answer.url()).pathname));
        await cdp.send("Page.setWebLifecycleState", { state: "active" });
        check((await asked).ok(), "after sleep the page does not learn how things stand");
        await view(page, READABLE).waitFor();
        await same(page);
      },
    ];
    yield [
      "offline",
      async () => {
        await phone.context.setOffline(true);
        await page.locator("#offline:not([hidden])").waitFor();
        check((await page.innerText("#offline")) === t("sale.offline"), "the page does not say that the position is kept");
        await phone.context.setOffline(false);
        await page.locator("#offline").waitFor({ state: "hidden" });
        await same(page);
      },
    ];
    yield [
      "closed and opened again",
      async () => {
        const address = page.url();
        const next = await phone.context.newPage();
        await page.close();
        page = next;
        await page.goto(address.split("#")[0]);
        await view(page, READABLE).waitFor();
        await same(page);
      },
    ];
    yield [
      "another device",
      async () => {
        other = await open_browser("desktop", "ko");
        await open_sale(other.page);
        await join_queue(other.page, logins[0]);
        await same(other.page);
        await same(page);
      },
    ];
    yield ["no complaints on the other device", async () => check(!other.complaints.length, other.complaints.join("; "))];
  } finally {
    await phone.close();
    await other?.close();
  }
});
