// When a performance begins, as the clock at its venue shows it.
import { lang } from "./i18n.js";

const SHOWN = { year: "numeric", month: "long", day: "numeric", weekday: "short", hour: "numeric", minute: "2-digit", timeZoneName: "short" };

/** Date, year, time and zone; empty for a performance without a time. */
export function begins(performance) {
  if (!performance?.starts_at) return "";
  const at = new Date(performance.starts_at);
  try {
    return new Intl.DateTimeFormat(lang, { ...SHOWN, timeZone: performance.time_zone }).format(at);
  } catch {
    // The browser does not know the zone: rather the right time of another zone than the wrong time of this one.
    return new Intl.DateTimeFormat(lang, { ...SHOWN, timeZone: "UTC" }).format(at);
  }
}
