// The form is fetched only by who needs it.
import { call, jitter } from "./api.js";
import { lang, note, sorry, again_in } from "./i18n.js";
import { root } from "./root.js";

const words = {
  en: { empty: "Please fill in both login and password.", wrong: "Login or password is not right. Please check them once more.", at_shop: "Your password cannot be checked on this page. Please sign in at the shop, then come back here.", to_shop: "Sign in at the shop" },
  ko: { empty: "아이디와 비밀번호를 모두 적어 주세요.", wrong: "아이디나 비밀번호가 맞지 않습니다. 다시 한번 확인해 주세요.", at_shop: "이 페이지에서는 고객님의 비밀번호를 확인할 수 없습니다. 쇼핑몰에서 로그인하신 뒤 다시 와 주세요.", to_shop: "쇼핑몰에서 로그인하기" },
  ja: { empty: "IDとパスワードの両方をご入力ください。", wrong: "IDまたはパスワードが違います。もう一度ご確認ください。", at_shop: "お客様のパスワードはこのページでは確認できません。ショップでログインしてから、もう一度お越しください。", to_shop: "ショップでログインする" },
}[lang];

const form = document.getElementById("sign_in");
const at_shop = document.getElementById("at_shop");
/** A session that is missing so soon after signing in was not kept. */
const KEPT_MS = 10000;
let done;
let signed_in_at = -Infinity;

// A browser that refuses cookies may still report them as enabled.
const keeps_cookies = () => ((document.cookie = "sale"), document.cookie);
const refuses_cookies = () => !keeps_cookies() || performance.now() - signed_in_at < KEPT_MS;
const tell_about_cookies = async () => (await import("./no_cookies.js")).open("sign_in_error");

export function open(signed_in) {
  done = signed_in;
  if (at_shop) at_shop.search = `?return_to=${encodeURIComponent(location.pathname + location.search)}`;
  (at_shop ?? form.elements.login).focus();
  if (refuses_cookies()) tell_about_cookies();
}

async function sign_in() {
  if (!keeps_cookies()) return tell_about_cookies();
  const button = form.querySelector("button.go");
  const { login, password } = form.elements;
  if (!login.value.trim() || !password.value) return note("sign_in_error", words.empty);
  button.disabled = true;
  note("sign_in_error", "");
  const answer = await call("POST", `${root}/v1/sign-in`, { login: login.value.trim(), password: password.value });
  if (answer.status === 429 || answer.status === 503) return again_in(jitter(answer.retry_ms || 5000), "sign_in_error", sign_in);
  button.disabled = false;
  if (!answer.ok) {
    if (answer.problem === "sign-in-at-shop") return lead_to_shop(answer.data?.sign_in_url);
    note("sign_in_error", answer.status === 401 ? words.wrong : sorry(answer));
    return password.focus();
  }
  password.value = "";
  signed_in_at = performance.now();
  done(answer.data?.customer?.name ?? login.value);
}

function lead_to_shop(url) {
  note("sign_in_error", words.at_shop);
  if (at_shop) return at_shop.focus();
  if (!url) return;
  const [text, link] = ["span", "a"].map((name) => document.createElement(name));
  link.href = url;
  link.textContent = words.to_shop;
  // One child: the box puts its children side by side.
  text.append(words.at_shop, " ", link);
  document.getElementById("sign_in_error").replaceChildren(text);
  link.focus();
}

at_shop?.addEventListener("click", () => sessionStorage.setItem("sd_at_shop", "1"));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  sign_in();
});
