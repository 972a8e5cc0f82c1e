// Loaded only when the visitor comes back from the shop. The fragment has the customer's name: it never leaves the browser.
import { lang } from "./i18n.js";
import { kept } from "./queue_math.js";

const failed = {
  en: "The sign-in at the shop did not work. Please try again.",
  ko: "쇼핑몰 로그인이 되지 않았습니다. 다시 한번 시도해 주세요.",
  ja: "ショップでのログインができませんでした。もう一度お試しください。",
}[lang];

/** The name; `null` unless this tab has left for the shop, since a link on another site can name anyone. */
export function arrive() {
  const name = new URLSearchParams(location.hash.slice(1)).get("signed_in");
  if (name == null) tell();
  history.replaceState(null, "", location.pathname + location.search);
  const has_left = sessionStorage.getItem("sd_at_shop");
  sessionStorage.removeItem("sd_at_shop");
  if (!has_left || name == null) return null;
  kept("sd_name", name);
  return name;
}

function tell() {
  const line = Object.assign(document.createElement("p"), { className: "strip", textContent: failed });
  line.setAttribute("role", "alert");
  document.getElementById("main").prepend(line);
}
