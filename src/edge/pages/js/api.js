let ahead_ms = 0;
let best_trip = Infinity;

/** The server's clock: a phone may be minutes off. */
export const now = () => Date.now() + ahead_ms;

function set_clock(date, age, sent) {
  const trip = Date.now() - sent;
  if (!date || trip > best_trip) return;
  best_trip = trip;
  // `Date` has whole seconds: half of one has passed on average.
  const offset = Date.parse(date) + Number(age || 0) * 1000 + 500 - (sent + trip / 2);
  ahead_ms = Math.abs(offset) < 1500 ? 0 : offset;
}

/** Never throws: without an answer `status` is 0. `problem` is the last part of the problem's type. */
export async function call(method, path, body, headers = {}) {
  const sent = Date.now();
  try {
    const response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout?.(15000),
    });
    set_clock(response.headers.get("date"), response.headers.get("age"), sent);
    const type = response.headers.get("content-type") ?? "";
    const data = type.includes("json") ? await response.json().catch(() => null) : null;
    return {
      status: response.status,
      ok: response.ok,
      data,
      problem: response.ok ? null : data?.type?.split("/").pop(),
      retry_ms: Math.min(120, Number(response.headers.get("retry-after")) || 0) * 1000,
    };
  } catch {
    return { status: 0, ok: false, data: null, problem: null, retry_ms: 0 };
  }
}

export const jitter = (ms) => ms * (0.8 + Math.random() * 0.4);
export const backoff = (failures, most = 30000) => jitter(Math.min(most, 1000 * 2 ** Math.min(failures, 6)));
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** `randomUUID` is missing without TLS. */
export const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/** Calls back when the page may have slept. */
export function on_wake(wake) {
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
  addEventListener("pageshow", (event) => event.persisted && wake());
  addEventListener("online", wake);
}
