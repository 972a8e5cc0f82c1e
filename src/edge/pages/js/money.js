// Not among the words: who waits sees no prices.
import { lang, t, count } from "./i18n.js";

export function money({ amount, currency }) {
  if (currency === "KRW") return t("common.won", { n: count(amount) });
  const style = new Intl.NumberFormat(lang, { style: "currency", currency });
  return style.format(amount / 10 ** style.resolvedOptions().maximumFractionDigits);
}
