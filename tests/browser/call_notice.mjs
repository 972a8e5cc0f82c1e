// Who waits asks for a message at their turn: the server remembers it for every device of the customer. Needs STAGEDOOR_BASE of a service with
// shop.events.call_notices, STAGEDOOR_LOGINS (one for each language) and STAGEDOOR_PASSWORD.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, join_queue, logins, open_browser, open_sale, run, shots, view, wait_ms } from "./fan.mjs";

const words = {
  ko: ["차례가 되면 메시지로 받기", "쇼핑몰에서 메시지를", "메시지 받지 않기"],
  en: ["Send me a message when it is my turn", "get a message from the shop", "Do not send a message"],
  ja: ["順番が来たらメッセージを受け取る", "メッセージをお送りします", "メッセージを受け取らない"],
};

const button = (page, text) => page.locator("[data-view=prequeue] [data-slot=advice] button", { hasText: text });

async function in_the_queue(lang, login) {
  const fan = await open_browser("phone", lang);
  await open_sale(fan.page);
  await join_queue(fan.page, login);
  await view(fan.page, ["prequeue"]).waitFor({ timeout: wait_ms });
  return fan;
}

await run(Object.keys(words).length, async function* () {
  for (const [n, lang] of Object.keys(words).entries()) {
    const [ask, asked, withdraw] = words[lang];
    yield [
      `a message at one's turn: asked, remembered, withdrawn (${lang})`,
      async () => {
        const fan = await in_the_queue(lang, logins[n]);
        const { page } = fan;
        const other = await open_browser("desktop", lang);
        try {
          await button(page, ask).click();
          await page.getByText(asked).first().waitFor();
          if (shots) await page.screenshot({ path: `${shots}/call_notice_${lang}.png`, fullPage: true });
          await page.reload();
          await button(page, withdraw).waitFor();
          await open_sale(other.page);
          await join_queue(other.page, logins[n]);
          await button(other.page, withdraw).click();
          await button(other.page, ask).waitFor();
          await page.reload();
          await button(page, ask).waitFor();
          const complaints = [...fan.complaints, ...other.complaints];
          check(!complaints.length, complaints.join("; "));
        } finally {
          await fan.close();
          await other.close();
        }
      },
    ];
  }
});
