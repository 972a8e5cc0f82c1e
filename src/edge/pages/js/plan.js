// The venue as flat arrays. A seat is an index in the plan's own order: zones, their rows, their seats.

// Bit by bit in `plan.kinds`; the last part is the attribute's name in the plan.
const KINDS = ["seats.kind.accessible", "seats.kind.companion", "seats.kind.restricted_view"];
const kind_bit = (name) => (1 << (KINDS.indexOf(`seats.kind.${name}`) + 1)) >> 1;
const [SPACE, COMPANION] = ["accessible", "companion"].map(kind_bit);
const number_of = (value, fallback = 0) => (Number.isFinite(value) ? value : fallback);

export function read_plan(json) {
  const total = json.zones.reduce((n, zone) => n + zone.rows.reduce((m, row) => m + row.seats.length, 0), 0);
  const plan = {
    size: { width: number_of(json.size?.width, 1000), height: number_of(json.size?.height, 1000) },
    categories: json.categories.map(({ name, color }) => ({ name, color })),
    total,
    x: new Float32Array(total),
    y: new Float32Array(total),
    category: new Uint8Array(total),
    section_of: new Uint16Array(total),
    row_of: new Uint32Array(total),
    state: new Uint8Array(total),
    kinds: new Uint8Array(total),
    guid: new Array(total),
    number: new Array(total),
    index: new Map(),
    sections: [],
    rows: [],
    areas: [],
  };
  const categories = new Map(plan.categories.map(({ name }, i) => [name, i]));
  let i = 0;
  for (const zone of json.zones) {
    const section = plan.sections.length;
    const zx = number_of(zone.position?.x);
    const zy = number_of(zone.position?.y);
    const entry = { name: zone.name, first: i, last: i, rows: [plan.rows.length, 0] };
    for (const row of zone.rows) {
      const rx = zx + number_of(row.position?.x);
      const ry = zy + number_of(row.position?.y);
      const of_row = { name: row.row_label ?? row.row_number ?? "", section, first: i, last: i };
      for (const seat of row.seats) {
        plan.x[i] = rx + number_of(seat.position?.x);
        plan.y[i] = ry + number_of(seat.position?.y);
        plan.category[i] = categories.get(seat.category) ?? 0;
        plan.section_of[i] = section;
        plan.row_of[i] = plan.rows.length;
        plan.guid[i] = seat.seat_guid;
        plan.number[i] = String(seat.seat_number ?? "");
        for (const name of seat.attributes ?? []) plan.kinds[i] |= kind_bit(name);
        plan.index.set(seat.seat_guid, i);
        i += 1;
      }
      of_row.last = i;
      plan.rows.push(of_row);
    }
    entry.last = i;
    entry.rows[1] = plan.rows.length;
    for (const area of zone.areas ?? []) plan.areas.push({ ...area, x: zx + number_of(area.position?.x), y: zy + number_of(area.position?.y) });
    if (entry.last > entry.first) plan.sections.push(measure(plan, entry));
  }
  plan.pitch = pitch_of(plan);
  plan.box = extent(plan);
  return plan;
}

/** Counts by section, kept up to date seat by seat. */
export function recount(plan) {
  for (const section of plan.sections) {
    section.free = 0;
    for (let i = section.first; i < section.last; i++) if (plan.state[i] === 0) section.free += 1;
  }
}

/** Whether a seat is kept for wheelchair users: a space for them, or a companion's seat beside a space that is not sold. */
export function is_kept(plan, i) {
  if (plan.kinds[i] & SPACE) return true;
  if (!(plan.kinds[i] & COMPANION)) return false;
  const row = plan.rows[plan.row_of[i]];
  return [-1, 1].some((step) => {
    let beside = i + step;
    while (beside >= row.first && beside < row.last && plan.kinds[beside] & COMPANION) beside += step;
    return beside >= row.first && beside < row.last && plan.kinds[beside] & SPACE && plan.state[beside] < 2;
  });
}

/** What is special about a seat, as keys of texts. */
export const kinds_of = (plan, i) => (plan.kinds[i] ? KINDS.filter((_, bit) => plan.kinds[i] & (1 << bit)) : []);

export function label(plan, i) {
  const row = plan.rows[plan.row_of[i]];
  return { section: plan.sections[plan.section_of[i]].name, row: row.name, number: plan.number[i], zone: plan.categories[plan.category[i]].name };
}

function measure(plan, section) {
  const points = [];
  const zones = new Map();
  for (let i = section.first; i < section.last; i++) {
    points.push([plan.x[i], plan.y[i]]);
    zones.set(plan.category[i], (zones.get(plan.category[i]) ?? 0) + 1);
  }
  section.category = [...zones].sort((a, b) => b[1] - a[1])[0][0];
  section.hull = hull(points);
  section.fits = [];
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  section.box = [xs, ys].flatMap((list) => [list.reduce((a, b) => Math.min(a, b)), list.reduce((a, b) => Math.max(a, b))]);
  section.x = xs.reduce((a, b) => a + b) / xs.length;
  section.y = ys.reduce((a, b) => a + b) / ys.length;
  section.free = 0;
  return section;
}

/** Andrew's monotone chain. */
function hull(points) {
  const sorted = points.slice().sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (list) => {
    const out = [];
    for (const p of list) {
      while (out.length > 1) {
        const [a, b] = out.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        out.pop();
      }
      out.push(p);
    }
    return out.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.reverse())];
}

/** What there is to see, however much empty ground the file declares around it: `{x, y, width, height}`. */
function extent({ sections, areas, size, pitch }) {
  const boxes = sections.map(({ box }) => box);
  for (const { x, y, rectangle, polygon, circle, ellipse } of areas) {
    const [rx, ry] = [circle?.radius ?? ellipse?.radius?.x ?? 0, circle?.radius ?? ellipse?.radius?.y ?? 0];
    boxes.push([x - rx, x + Math.max(rx, rectangle?.width ?? 0), y - ry, y + Math.max(ry, rectangle?.height ?? 0)]);
    for (const point of polygon?.points ?? []) boxes.push([x + point.x, x + point.x, y + point.y, y + point.y]);
  }
  if (!boxes.length) return { x: 0, y: 0, ...size };
  const least = (k) => boxes.reduce((a, box) => Math.min(a, box[k]), Infinity) - pitch * 2;
  const most = (k) => boxes.reduce((a, box) => Math.max(a, box[k]), -Infinity) + pitch * 2;
  return { x: least(0), y: least(2), width: most(1) - least(0), height: most(3) - least(2) };
}

/** The usual distance of neighbours, from which seats get their size on the screen. */
function pitch_of(plan) {
  const gaps = [];
  for (const row of plan.rows)
    for (let i = row.first + 1; i < row.last && gaps.length < 4000; i++) gaps.push(Math.hypot(plan.x[i] - plan.x[i - 1], plan.y[i] - plan.y[i - 1]));
  gaps.sort((a, b) => a - b);
  return gaps[gaps.length >> 1] || 20;
}
