// What a fan's browser works out for itself from the board and her own number.

/** People before her; `null` while she has no number. */
export const ahead_of = (number, board) => (number == null ? null : Math.max(0, number - board.now_serving - 1));

/** `[p10, p50, p90]` in seconds from the board's table by straight lines between its rows, or `null`. */
export function wait_of(ahead, board) {
  const rows = board.estimate;
  if (ahead == null || !rows?.length || board.phase !== "on_sale") return null;
  let i = rows.findIndex((row) => row[0] >= ahead);
  if (i < 0) i = rows.length - 1;
  const to = rows[i];
  const from = rows[i - 1] ?? [0, 0, 0, 0];
  const part = to[0] === from[0] ? 1 : (ahead - from[0]) / (to[0] - from[0]);
  return [1, 2, 3].map((k) => Math.max(0, from[k] + (to[k] - from[k]) * part));
}

/** How long until the next look: often near the front, seldom far back. */
export function rhythm(wait, board) {
  const { near_ms = 2000, far_ms = 15000 } = board?.poll ?? {};
  if (!wait) return board?.phase === "on_sale" || board?.phase === "drawing" ? near_ms : Math.min(far_ms, 5000);
  const far = Math.min(1, Math.max(0, (wait[1] - 60) / 900));
  return near_ms + (far_ms - near_ms) * far;
}

/** What this browser remembers; a browser that does not want to remember works as well. */
export function kept(name, value) {
  try {
    if (value === undefined) return JSON.parse(localStorage.getItem(name));
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    return null;
  }
}

/** The share of her way that lies behind her, over refreshes too. */
export function progress(sale, number, ahead) {
  const name = `sd_first_${sale}`;
  let [of, first] = kept(name) ?? [];
  if (of !== number || !(first >= ahead)) kept(name, [number, (first = ahead)]);
  return first ? 1 - ahead / first : 1;
}
