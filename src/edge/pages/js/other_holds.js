// This visitor's other holds of the sale: of another performance, or made in another window or at another device.
import { now } from "./api.js";
import { t, put, count, clock } from "./i18n.js";
import { root } from "./root.js";

const box = document.getElementById("others");
const list = document.getElementById("other_holds");
let lines = [];

function line(hold, { when, open }) {
  const item = document.createElement("li");
  const text = document.createElement("p");
  const go = document.createElement(hold.state === "paying" ? "a" : "button");
  go.className = "button";
  if (hold.state === "paying") go.href = `${root}/orders`;
  else go.onclick = () => open(hold);
  put(go, t(hold.state === "paying" ? "seats.to_order" : "seats.open_other"));
  item.append(text, go);
  return { item, text, hold, when: when(hold) };
}

/** `when` names a hold's performance; `open` shows its seats. */
export function show_others(holds, { when, open }) {
  lines = holds.map((hold) => line(hold, { when, open }));
  list.replaceChildren(...lines.map(({ item }) => item));
  tick_others();
}

export function tick_others() {
  for (const { item, text, hold, when } of lines) {
    const left = Date.parse(hold.expires_at) - now();
    const is_paying = hold.state === "paying";
    item.hidden = !is_paying && left <= 0;
    put(text, t(is_paying ? "seats.other_paying" : "seats.other", { when, n: count(hold.seats.length), time: clock(left) }));
  }
  box.hidden = !lines.some(({ item }) => !item.hidden);
}
