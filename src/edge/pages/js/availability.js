// Keeps `plan.state` equal to the server's: one snapshot, then what changed since.
import { call, backoff } from "./api.js";
import { recount } from "./plan.js";

const STATES = ["free", "held", "booked", "blocked"];

export function follow(path, plan, { on_change, on_refused }) {
  let version = 0;
  let events;
  let failures = 0;
  let stopped = false;

  async function snapshot() {
    if (stopped) return;
    events?.close();
    const answer = (await packed()) ?? (await plain());
    if (stopped) return;
    if (answer === "refused") return on_refused();
    if (answer !== "read") {
      failures += 1;
      return setTimeout(snapshot, backoff(failures));
    }
    failures = 0;
    recount(plan);
    on_change(null);
    listen();
  }

  /** Two bits a seat behind the version (u64) and the number of seats (u32); `null` when it does not fit the plan. */
  async function packed() {
    try {
      const response = await fetch(path, { headers: { accept: "application/octet-stream" }, signal: AbortSignal.timeout?.(15000) });
      if (response.status === 401 || response.status === 403) return "refused";
      if (!response.ok || !response.headers.get("content-type")?.startsWith("application/octet-stream")) return null;
      const bytes = new DataView(await response.arrayBuffer());
      if (bytes.byteLength < 12 + Math.ceil(plan.total / 4) || bytes.getUint32(8, true) !== plan.total) return null;
      version = Number(bytes.getBigUint64(0, true));
      for (let i = 0; i < plan.total; i++) plan.state[i] = (bytes.getUint8(12 + (i >> 2)) >> (2 * (i & 3))) & 3;
      return "read";
    } catch {
      return null;
    }
  }

  async function plain() {
    const answer = await call("GET", path, undefined, { accept: "application/json" });
    if (answer.status === 401 || answer.status === 403) return "refused";
    if (!answer.ok) return "failed";
    version = answer.data.version;
    apply(answer.data.seats);
    return "read";
  }

  function apply(seats) {
    const changed = [];
    for (const [guid, name] of Object.entries(seats)) {
      const i = plan.index.get(guid);
      const state = STATES.indexOf(name);
      if (i === undefined || state < 0 || plan.state[i] === state) continue;
      const section = plan.sections[plan.section_of[i]];
      section.free += (state === 0) - (plan.state[i] === 0);
      plan.state[i] = state;
      changed.push(i);
    }
    return changed;
  }

  function listen() {
    events = new EventSource(`${path}/events?after=${version}`);
    events.addEventListener("delta", (event) => {
      failures = 0;
      const delta = JSON.parse(event.data);
      if (delta.version <= version) return;
      version = delta.version;
      const changed = apply(delta.seats);
      if (changed.length) on_change(changed);
    });
    events.addEventListener("reset", snapshot);
    events.addEventListener("error", () => {
      // The browser's own retry would ask with the old version and hammer a server in trouble.
      events.close();
      failures += 1;
      if (!stopped) setTimeout(failures > 2 ? snapshot : listen, backoff(failures));
    });
  }

  snapshot();
  return () => {
    stopped = true;
    events?.close();
  };
}
