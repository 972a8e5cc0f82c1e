// A visitor of a sale without sign-in: the browser solves the proof of work, and the entry survives a reload. Needs
// STAGEDOOR_BASE and STAGEDOOR_SALE, a sale without sign-in whose places cost work.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, open_browser, open_sale, run, view, wait_ms } from "./fan.mjs";

await run(0, async function* () {
  const fan = await open_browser("phone", "ko");
  const { page } = fan;
  try {
    yield [
      "joining costs work and nothing else",
      async () => {
        const answers = [];
        page.on("response", (answer) => answer.request().method() === "POST" && answers.push(`${answer.status()} ${new URL(answer.url()).pathname.split("/").pop()}`));
        await open_sale(page);
        await view(page, ["join"]).waitFor({ timeout: wait_ms });
        const began = Date.now();
        await page.click("[data-view=join] [data-do=join]");
        await view(page, ["prequeue", "waiting", "called"]).waitFor();
        check(answers.slice(0, 2).join() === "403 queue,201 queue", `the answers were ${answers}`);
        check(!(await page.locator("progress").isVisible()), "the page still says that it works");
        return `${Date.now() - began} ms`;
      },
    ];
    yield [
      "refresh",
      async () => {
        const number = () => page.evaluate(async () => (await (await fetch(`/v1/sales/${location.pathname.split("/")[2]}/queue/position`)).json()).number);
        const before = await number();
        await page.reload();
        await view(page, ["prequeue", "waiting", "called", "admitted"]).waitFor();
        check(before > 0 && (await number()) === before, "her number is another one");
      },
    ];
    yield ["no complaints", async () => check(!fan.complaints.length, fan.complaints.join("; "))];
  } finally {
    await fan.close();
  }
});
