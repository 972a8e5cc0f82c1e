// Loaded only when the visitor comes back from the shop. The fragment has the customer's name: it never leaves the browser.
import { kept } from "./queue_math.js";

/** The name; `null` unless this tab has left for the shop, since a link on another site can name anyone. */
export function arrive() {
  const name = new URLSearchParams(location.hash.slice(1)).get("signed_in");
  history.replaceState(null, "", location.pathname + location.search);
  const has_left = sessionStorage.getItem("sd_at_shop");
  sessionStorage.removeItem("sd_at_shop");
  if (!has_left) return null;
  kept("sd_name", name);
  return name;
}
