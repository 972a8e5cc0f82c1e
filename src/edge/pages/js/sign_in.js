// The form is fetched only by who needs it.
import { call, jitter } from "./api.js";
import { t, note, sorry, again_in } from "./i18n.js";

const form = document.getElementById("sign_in");
let done;

export function open(signed_in) {
  done = signed_in;
  form.elements.login.focus();
}

async function sign_in() {
  const button = form.querySelector(".go");
  const { login, password } = form.elements;
  if (!login.value.trim() || !password.value) return note("sign_in_error", t("sale.sign_in_empty"));
  button.disabled = true;
  note("sign_in_error", "");
  const answer = await call("POST", "/v1/sign-in", { login: login.value.trim(), password: password.value });
  if (answer.status === 429 || answer.status === 503) return again_in(jitter(answer.retry_ms || 5000), "sign_in_error", sign_in);
  button.disabled = false;
  if (!answer.ok) {
    note("sign_in_error", answer.status === 401 ? t("sale.sign_in_wrong") : sorry(answer));
    return password.focus();
  }
  password.value = "";
  done(answer.data?.customer?.name ?? login.value);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sign_in();
});
