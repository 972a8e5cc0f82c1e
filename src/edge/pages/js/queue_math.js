// Position and wait, computed from the status and the own number.

/** Linear interpolation between a table's rows. */
function between(rows, distance) {
  let i = rows.findIndex((row) => row[0] >= distance);
  if (i < 0) i = rows.length - 1;
  const to = rows[i];
  const from = rows[i - 1] ?? to.map(() => 0);
  const part = to[0] === from[0] ? 1 : (distance - from[0]) / (to[0] - from[0]);
  return to.map((value, k) => Math.max(0, from[k] + (value - from[k]) * part));
}

/** Numbers called before this one; `null` without a number. */
export const distance_of = (number, status) => (number == null ? null : Math.max(0, number - status.now_serving - 1));

/** People within a distance; the status does not know those who joined after it. */
export function people_in(distance, status) {
  const [end, all] = status.people_ahead.at(-1) ?? [0, 0];
  return distance >= end ? all + distance - end : Math.round(between(status.people_ahead, distance)[1]);
}

/** `[p10, p50, p90]` in seconds, or `null`. */
export function wait_of(distance, status) {
  if (distance == null || !status.estimate?.length || status.phase !== "on_sale") return null;
  return between(status.estimate, distance).slice(1);
}

/** Whether this visitor is in the heartbeat sample. */
export function is_asked(position, status) {
  const asked = status?.presence;
  return asked && !(position.heartbeat_sample & (distance_of(position.number, status) < asked.near_distance ? asked.near_mask : asked.far_mask));
}

/** Milliseconds until the next poll: short near the front. */
export function rhythm(wait, status) {
  const { min = 2000, max = 15000 } = status?.poll_interval_ms ?? {};
  if (!wait) return status?.phase === "on_sale" || status?.phase === "drawing" ? min : Math.min(max, 5000);
  const far = Math.min(1, Math.max(0, (wait[1] - 60) / 900));
  return min + (max - min) * far;
}

/** Reads or writes local storage; works without it. */
export function kept(name, value) {
  try {
    if (value === undefined) return JSON.parse(localStorage.getItem(name));
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    return null;
  }
}

/** The share of the way done, across reloads. */
export function progress(sale, number, ahead) {
  const name = `sd_first_${sale}`;
  let [of, first] = kept(name) ?? [];
  if (of !== number || !(first >= ahead)) kept(name, [number, (first = ahead)]);
  return first ? 1 - ahead / first : 1;
}
