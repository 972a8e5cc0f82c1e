import { call, backoff } from "./api.js";
import { t, has, note, sorry, day } from "./i18n.js";
import { show_holds } from "./own_holds.js";
import { kept } from "./queue_math.js";
import { begins } from "./venue_time.js";
import { root } from "./root.js";

const list = document.getElementById("sales");
const poster = list.dataset.poster;

function card(sale) {
  const item = document.createElement("li");
  item.innerHTML = '<a><img alt=""><span class="phase"></span><h2></h2><p class="when"></p><p class="where"></p><span class="button go"></span></a>';
  const set = (selector, text) => (item.querySelector(selector).textContent = text ?? "");
  const first = sale.performances?.[0];
  item.querySelector("a").href = `${root}/sales/${encodeURIComponent(sale.id)}`;
  item.querySelector("img").src = poster;
  set(".phase", has(`home.phase.${sale.phase}`) ? t(`home.phase.${sale.phase}`) : "");
  set("h2", sale.title);
  set(".when", first?.starts_at ? begins(first) : sale.on_sale_starts_at ? t("home.opens", { time: day(sale.on_sale_starts_at) }) : "");
  set(".where", sale.venue ?? first?.venue);
  set(".button", t(sale.phase === "closed" ? "home.look" : "home.go"));
  return item;
}

async function start(failures = 0) {
  const answer = await call("GET", `${root}/v1/sales`);
  if (!answer.ok) {
    note("message", sorry(answer));
    return setTimeout(start, answer.retry_ms || backoff(failures), failures + 1);
  }
  note("message", answer.data.sales.length ? "" : t("home.none"));
  list.replaceChildren(...answer.data.sales.map(card));
  list.ariaBusy = "false";
  // Asked only by a browser that has signed in or held seats: all others open this page in the same minute.
  if (kept("sd_name") || kept("sd_held")) show_holds();
}
start();
