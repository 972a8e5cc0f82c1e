// What a fan's browser works out for itself from the board and her own number.

/** What a board's rows say of a distance, by straight lines from one to the next. */
function between(rows, distance) {
  let i = rows.findIndex((row) => row[0] >= distance);
  if (i < 0) i = rows.length - 1;
  const to = rows[i];
  const from = rows[i - 1] ?? to.map(() => 0);
  const part = to[0] === from[0] ? 1 : (distance - from[0]) / (to[0] - from[0]);
  return to.map((value, k) => Math.max(0, from[k] + (value - from[k]) * part));
}

/** Numbers that are called before hers; `null` while she has none. */
export const distance_of = (number, board) => (number == null ? null : Math.max(0, number - board.now_serving - 1));

/** How many people stand within so many numbers; a board knows nothing of those who came after it. */
export function people_in(distance, board) {
  const [end, all] = board.survivors.at(-1) ?? [0, 0];
  return distance >= end ? all + distance - end : Math.round(between(board.survivors, distance)[1]);
}

/** `[p10, p50, p90]` in seconds from the board's table, or `null`. */
export function wait_of(distance, board) {
  if (distance == null || !board.estimate?.length || board.phase !== "on_sale") return null;
  return between(board.estimate, distance).slice(1);
}

/** Whether she is one of the few who are asked now and then if they are there. */
export function is_asked(place, board) {
  const asked = board?.presence;
  return asked && !(place.sample & (distance_of(place.number, board) < asked.near ? asked.near_mask : asked.mask));
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
