// How a waiting visitor goes on with another device, or why that is not possible.
import { lang } from "./i18n.js";
import { root } from "./root.js";

const words = {
  en: {
    heading: "Continue on another device",
    customer: "Open this address on the other device, or scan the code, and sign in with the same account. Your place is the same there.",
    none: "This sale has no sign-in: your place is kept in this browser only. Another device would get a new place at the end of the queue.",
    code: "QR code with the address of this page",
  },
  ko: {
    heading: "다른 기기에서 이어서 보기",
    customer: "다른 기기에서 아래 주소를 열거나 QR 코드를 찍은 뒤 같은 계정으로 로그인해 주세요. 대기 순서는 그대로 이어집니다.",
    none: "이 공연은 로그인 없이 진행되어 대기 순서가 이 브라우저에만 저장됩니다. 다른 기기에서는 맨 뒤에서 새로 대기하시게 됩니다.",
    code: "이 화면 주소의 QR 코드",
  },
  ja: {
    heading: "別の端末で続ける",
    customer: "別の端末で下のアドレスを開くか、QRコードを読み取り、同じアカウントでログインしてください。順番はそのまま引き継がれます。",
    none: "この公演はログインなしで受け付けているため、順番はこのブラウザーにだけ保存されます。別の端末では、列の最後尾に並び直すことになります。",
    code: "この画面のアドレスのQRコード",
  },
}[lang];

function made(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}

/** Once for each view that waits. */
export function offer(sale, is_signed_in) {
  for (const slot of document.querySelectorAll("[data-slot=advice]")) {
    if (slot.querySelector("details")) continue;
    const details = document.createElement("details");
    details.append(made("summary", words.heading), made("p", is_signed_in ? words.customer : words.none));
    if (is_signed_in) {
      details.append(made("p", `${location.origin}${root}/sales/${sale}`, { className: "address" }));
      // Fetched when it is looked at: most visitors never do.
      details.addEventListener("toggle", () => details.querySelector("img") ?? details.append(made("img", "", { src: `${root}/sales/${sale}/qr.svg`, alt: words.code, className: "code", width: 220, height: 220 })), { once: true });
    }
    slot.querySelector(".steps").after(details);
  }
}
