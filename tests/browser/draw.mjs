// The draw, checked where a fan checks it: in her own browser. Needs one login and a sale with a fair draw that opens
// soon; the variables are those of journey.mjs.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { readFile } from "node:fs/promises";
import { base, check, join_queue, logins, open_browser, open_sale, run, shots, texts_of, wait_ms } from "./fan.mjs";

const t = await texts_of("ko");

await run(1, async function* () {
  const fan = await open_browser("phone", "ko");
  const { page } = fan;
  const verdict = async (button, kind) => {
    await page.click(`[data-do=${button}]`);
    await page.locator(`#verdict.${kind}`).waitFor({ timeout: 60000 });
    return page.locator("#verdict").textContent();
  };
  let sale;
  const open_draw = () => page.goto(`${base}/sales/${sale}/draw`);
  try {
    yield [
      "before the draw nobody is told a number",
      async () => {
        await open_sale(page);
        await page.waitForURL("**/sales/*");
        sale = new URL(page.url()).pathname.split("/")[2];
        await join_queue(page, logins[0]);
        check((await page.locator("main").textContent()).includes(t("sale.prequeue_draw")), "the page does not say that the order is not drawn yet");
        const link = await page.locator("#draw a").evaluate((link) => link.href);
        check(link === `${base}/sales/${sale}/draw`, `the waiting page leads to ${link}`);
        await page.click("#draw a");
        await page.waitForURL("**/draw");
        await page.locator("#steps li.done").first().waitFor();
        check(!(await page.locator("#check").isVisible()), "something can be checked before the draw");
      },
    ];
    yield [
      "she takes her proof home before the draw",
      async () => {
        const [download] = await Promise.all([page.waitForEvent("download"), page.click("[data-do=keep]")]);
        const proof = JSON.parse(await readFile(await download.path()));
        check(proof.sale === sale && proof.group.signed.split(".").length === 3 && proof.leaf.length === 64 && proof.path === null, JSON.stringify(proof));
        return download.suggestedFilename();
      },
    ];
    yield [
      "the own entry",
      async () => {
        await page.locator("#check").waitFor({ timeout: wait_ms });
        const text = await verdict("mine", "right");
        if (shots) await page.screenshot({ path: `${shots}/draw.png`, fullPage: true });
        return text;
      },
    ];
    yield ["the whole list", () => verdict("all", "right")];
    for (const name of ["seed", "commitment", "root", "beacon", "order", "entries"]) {
      yield [
        `a changed ${name} is caught`,
        async () => {
          const path = `**/v1/sales/${sale}/draw`;
          await page.route(path, async (route) => {
            const answer = await route.fetch();
            const draw = await answer.json();
            draw[name] = typeof draw[name] === "number" ? draw[name] - 1 : draw[name].replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
            await route.fulfill({ response: answer, json: draw });
          });
          await open_draw();
          await page.locator("#check").waitFor();
          const text = await verdict("all", "wrong");
          await page.unroute(path);
          return text;
        },
      ];
    }
    for (const [name, change] of Object.entries({
      leaf: (receipt) => (receipt.subject = receipt.subject.replace(/^./, (digit) => (digit === "0" ? "1" : "0"))),
      group: (receipt) => (receipt.group.signed = receipt.group.signed.replace(/.{9}$/, "AAAAAAAAA")),
      root: (receipt) => receipt.path.reverse().push(receipt.leaf),
      number: (receipt) => (receipt.number += 1),
    })) {
      yield [
        `a receipt with another ${name} is caught`,
        async () => {
          const path = `**/v1/sales/${sale}/draw/receipt`;
          await page.route(path, async (route) => {
            const answer = await route.fetch();
            const receipt = await answer.json();
            change(receipt);
            await route.fulfill({ response: answer, json: receipt });
          });
          await open_draw();
          await page.locator("#check").waitFor();
          const text = await verdict("mine", "wrong");
          check(text === t("draw.wrong", { what: name }), text);
          await page.unroute(path);
        },
      ];
    }
    yield [
      "a beacon that is late is said to be",
      async () => {
        const path = `**/v1/sales/${sale}/draw`;
        await page.route(path, async (route) => {
          const answer = await route.fetch();
          const draw = await answer.json();
          for (const name of ["beacon", "signature", "seed", "draw_seed", "order", "drawn_at"]) draw[name] = null;
          await route.fulfill({ response: answer, json: draw });
        });
        await open_draw();
        const late = t("draw.step.late", { n: "|" }).split("|").at(-1);
        await page.locator("#steps li", { hasText: late }).waitFor();
        check(!(await page.locator("#check").isVisible()), "something can be checked though nothing is drawn");
        if (shots) await page.screenshot({ path: `${shots}/draw-late.png`, fullPage: true });
        await page.unroute(path);
      },
    ];
    yield ["no complaints", async () => check(!fan.complaints.length, fan.complaints.join("; "))];
  } finally {
    await fan.close();
  }
});
