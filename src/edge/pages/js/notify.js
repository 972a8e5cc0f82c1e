// Sound, vibration and notification, only on request: browsers require a press first.
import { lang, put } from "./i18n.js";

const told = { en: "We will tell you when it is your turn", ko: "차례가 되면 알려 드리겠습니다", ja: "順番が来ましたらお知らせします" }[lang];

const audio = new (window.AudioContext ?? window.webkitAudioContext)();
if ("Notification" in window && Notification.permission === "default") Notification.requestPermission();

/** Says on its buttons that the bell hangs, and rings once. */
export function start() {
  for (const button of document.querySelectorAll("[data-do=tell]")) {
    put(button, `✓ ${told}`);
    button.disabled = true;
  }
  bell();
  return bell;
}

/** A chime; with a text also a notification. */
function bell(heading, body) {
  audio.resume();
  [523, 659, 784, 1047].forEach((pitch, i) => {
    const tone = audio.createOscillator();
    const loud = audio.createGain();
    const at = audio.currentTime + i * 0.18;
    tone.frequency.value = pitch;
    loud.gain.setValueAtTime(0.25, at);
    loud.gain.exponentialRampToValueAtTime(0.001, at + 0.7);
    tone.connect(loud).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.7);
  });
  if (!heading) return;
  navigator.vibrate?.([300, 150, 300, 150, 600]);
  try {
    if (document.hidden && Notification.permission === "granted") new Notification(heading, { body });
  } catch {
    // Some phones allow notifications from service workers only; sound and title remain.
  }
}
