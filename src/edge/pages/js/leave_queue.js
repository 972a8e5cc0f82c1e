// Asks twice before a place is given up. Loaded when asked: few visitors leave.
import { lang } from "./i18n.js";

const words = {
  en: ["Leave the queue?", "You give up your place. If you come back, you start at the end.", "Keep my place", "Leave"],
  ko: ["대기를 그만두시겠습니까?", "그만두시면 대기 순서가 없어지며, 다시 오시면 맨 뒤에서 기다리시게 됩니다.", "계속 기다리기", "그만두기"],
  ja: ["順番待ちをやめますか？", "順番はなくなり、次にお越しの際は最後尾になります。", "このまま待つ", "やめる"],
}[lang];

const dialog = document.createElement("dialog");
dialog.id = "leave";
dialog.innerHTML = '<form method="dialog" class="stack"><h2 id="leave_heading"></h2><p></p><div class="pair"><button class="go" value="stay"></button><button value="leave"></button></div></form>';
dialog.setAttribute("aria-labelledby", "leave_heading");
dialog.querySelectorAll("h2, p, button").forEach((node, i) => (node.textContent = words[i]));
document.body.append(dialog);

export function ask(leave) {
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue === "leave" && leave();
  dialog.showModal();
}
