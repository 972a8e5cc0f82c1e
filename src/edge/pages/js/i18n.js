// Texts are embedded in the page: no fetch before the first line.
const words = JSON.parse(document.getElementById("words").textContent);

export const lang = document.documentElement.lang;
export const has = (key) => key in words;
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values?.[name] ?? "");
export const t = (key, values) => fill(words[key] ?? key, values);

const integers = new Intl.NumberFormat(lang);
const hours = new Intl.DateTimeFormat(lang, { hour: "numeric", minute: "2-digit" });
const days = new Intl.DateTimeFormat(lang, { month: "long", day: "numeric", weekday: "short", hour: "numeric", minute: "2-digit" });

export const count = (n) => integers.format(n);
export const hour = (date) => hours.format(new Date(date));
export const day = (date) => days.format(new Date(date));

/** "2:05", "1:02:05"; days are said in words. */
export function clock(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  const two = (n) => String(n).padStart(2, "0");
  const time = d || h ? `${two(h)}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
  return d ? `${t("common.days", { n: d })} ${time}` : time;
}

const span = (minutes) =>
  minutes < 60
    ? t("common.minutes", { n: minutes })
    : t(minutes % 60 ? "common.hours_minutes" : "common.hours", { h: Math.floor(minutes / 60), n: minutes % 60 });

/** A wait in everyday words; long waits are rounded. */
export function range(low_s, high_s) {
  const step = high_s > 5400 ? 5 : 1;
  const low = Math.max(1, Math.floor(low_s / 60 / step) * step);
  const high = Math.max(1, Math.ceil(high_s / 60 / step) * step);
  if (high <= 1) return t("common.within_a_minute");
  if (low_s < 60 || low === high) return t("common.within", { span: span(high) });
  if (high < 60) return t("common.range_minutes", { low, high });
  return t("common.range", { low: span(low), high: span(high) });
}

/** Sets text only where it differs, for screen readers. */
export function put(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

export function note(id, text) {
  const node = document.getElementById(id);
  put(node, text ?? "");
  node.hidden = !text;
}

export function again_in(ms, id, retry) {
  let left = Math.ceil(ms / 1000);
  note(id, t("common.again_in", { n: left }));
  const tick = setInterval(() => {
    left -= 1;
    note(id, left > 0 ? t("common.again_in", { n: left }) : "");
    if (left > 0) return;
    clearInterval(tick);
    retry();
  }, 1000);
}

export const say = (text) => put(document.getElementById("say"), text);

/** The error in the visitor's language. */
export function sorry(answer) {
  const name = answer.problem;
  const key = [`problem.${name}`, `refusal.${name}`].find(has);
  if (key) return t(key, answer.data);
  if (!answer.status) return t("problem.offline");
  return t(answer.status === 429 || answer.status === 503 ? "problem.busy" : "problem.other");
}
