// The seat map is there after everything that can happen to its canvas: hidden and shown, turned, resized, without any room,
// left and come back to, reloaded. The variables are those of journey.mjs; two logins.
//
// The last line says how many parts passed and failed; the exit code is 1 when one failed.
import { check, enter, join_queue, logins, open_browser, open_sale, run } from "./fan.mjs";

/** Colors on the canvas: an empty one has a single color or none. */
const colors = (page) =>
  page.evaluate(async () => {
    for (let frame = 0; frame < 3; frame++) await new Promise((drawn) => requestAnimationFrame(drawn));
    const canvas = document.querySelector("#map");
    if (!canvas.width || !canvas.height) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4 * 101) seen.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
    return seen.size;
  });

async function has_ink(page, after) {
  let seen = 0;
  for (let tries = 0; tries < 20; tries++) {
    seen = await colors(page);
    if (seen > 4) return;
    await page.waitForTimeout(100);
  }
  throw new Error(`the map is blank after ${after}: ${seen} colors`);
}

const turned = ({ width, height }) => ({ width: height, height: width });

/** Each: its name, and what is done to the page. */
const transitions = (page, size) => [
  ["the list and back", async () => (await page.click("[data-do=list]"), await page.waitForTimeout(300), await page.click("[data-do=map]"))],
  ["the whole view", () => page.click("[data-do=whole]")],
  ["coming nearer", () => page.click("[data-do=nearer]")],
  ["turning", () => page.setViewportSize(turned(size))],
  ["the list while turned", async () => (await page.click("[data-do=list]"), await page.setViewportSize(size), await page.click("[data-do=map]"))],
  [
    "no room at all",
    async () => {
      await page.evaluate(() => (document.querySelector("#map").style.height = "0"));
      await page.waitForTimeout(300);
      await page.evaluate(() => (document.querySelector("#map").style.height = ""));
    },
  ],
  ["a small window", async () => (await page.setViewportSize({ width: 320, height: 480 }), await page.waitForTimeout(200), await page.setViewportSize(size))],
  [
    "another page and back",
    async () => {
      await page.goto("about:blank");
      await page.goBack();
      await page.locator("#loading").waitFor({ state: "hidden" });
    },
  ],
  ["a reload", async () => (await page.reload(), await page.locator("#loading").waitFor({ state: "hidden" }))],
];

run(2, async function* () {
  for (const [index, viewport] of ["desktop", "phone"].entries()) {
    const fan = await open_browser(viewport, "en");
    const { page } = fan;
    yield [
      `${viewport}: from the sale page to the seats`,
      async () => {
        await open_sale(page);
        await join_queue(page, logins[index]);
        await enter(page);
        await has_ink(page, "loading");
      },
    ];
    for (const [name, act] of transitions(page, page.viewportSize()))
      yield [
        `${viewport}: ${name}`,
        async () => {
          await act();
          await has_ink(page, name);
        },
      ];
    yield [`${viewport}: no complaints`, async () => check(!fan.complaints.length, fan.complaints.join("\n"))];
    await fan.close();
  }
});
