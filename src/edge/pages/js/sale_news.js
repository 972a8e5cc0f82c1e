// What becomes of the sale while seats are chosen: paused, sold out, over, and what the promoter has to say.
import { call, jitter } from "./api.js";
import { t, note } from "./i18n.js";

const LOOK_MS = 15000;
const of_phase = { paused: "seats.paused", sold_out: "seats.sold_out", closed: "seats.closed" };

export async function follow_news(base) {
  const answer = await call("GET", `${base}/status`);
  if (answer.ok) {
    const { phase, reason, notice } = answer.data;
    const text = reason === "only_wheelchair_spaces" ? "seats.only_wheelchairs_news" : of_phase[phase];
    note("news", [text && t(text), notice].filter(Boolean).join(" "));
  }
  setTimeout(follow_news, jitter(answer.retry_ms || LOOK_MS), base);
}
