// The sign-in over a page whose session is missing or over; afterwards the page goes on where it was.
import { open } from "./sign_in.js";
import { kept } from "./queue_math.js";
import { t, note } from "./i18n.js";

const dialog = document.getElementById("sign_in_dialog");
const strip = document.getElementById("signed_out");
let go_on = () => {};

/** `demo`: the account that a rehearsal offers, if it does. */
export function ask_to_sign_in(next, demo) {
  go_on = next;
  kept("sd_name", null);
  strip.hidden = false;
  if (demo) note("demo", t("sign_in.demo", demo));
  show();
}

function show() {
  if (dialog.open) return;
  dialog.showModal();
  open(signed_in);
}

function signed_in(name) {
  kept("sd_name", name);
  strip.hidden = true;
  dialog.close();
  go_on();
}

document.getElementById("sign_in_again").addEventListener("click", show);
dialog.querySelector("[data-do=back]").addEventListener("click", () => dialog.close());
