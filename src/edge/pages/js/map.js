// Draws the venue on a canvas: sections from afar, seats from near. Draws only when something changed, and only what is in sight.

const SEATS_FROM = 5; // pixels between neighbours from which single seats are drawn
const TAP_FROM = 27; // below it a tap comes nearer instead of choosing: a thumb is wide
const TAP_AT = 38;
const NAME_LEAST = 11; // pixels of a section's name
const NAME_MOST = 20;
const NAME_FONT = (size) => `800 ${size}px system-ui,sans-serif`;
const [ACCESSIBLE, COMPANION, RESTRICTED_VIEW] = [1, 2, 4];

export function seat_map(canvas, { on_pick, on_look, is_mine, name_of_section, is_dimmed }) {
  const pen = canvas.getContext("2d");
  let plan;
  let scale = 1;
  let left = 0; // plan coordinates at the canvas's upper left corner
  let top = 0;
  let wide = 0;
  let high = 0;
  let least = 0.1;
  let dirty = false;
  let cursor = -1;
  let flight = 0;

  function redraw() {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(() => {
      dirty = false;
      draw();
    });
  }

  function resize() {
    // A hidden canvas has no size: what is in sight stays for when it is shown again.
    if (!canvas.clientWidth || !canvas.clientHeight) return;
    const ratio = Math.min(2.5, devicePixelRatio || 1);
    const had = wide;
    const was_whole = scale <= least * 1.01;
    wide = canvas.clientWidth;
    high = canvas.clientHeight;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!plan) return;
    least = 0.96 * Math.min(wide / plan.box.width, high / plan.box.height);
    if (!had || was_whole || scale < least) whole(false);
    // At once: a canvas that has changed its size is empty until it is drawn again.
    draw();
  }

  function keep_inside() {
    scale = Math.min(Math.max(scale, least), 72 / plan.pitch);
    const hold = (at, from, size, view) => (size <= view ? from + (size - view) / 2 : Math.min(Math.max(at, from - view * 0.3), from + size - view * 0.7));
    left = hold(left, plan.box.x, plan.box.width, wide / scale);
    top = hold(top, plan.box.y, plan.box.height, high / scale);
  }

  function zoom_at(px, py, factor) {
    if (!wide) return;
    const [x, y] = [left + px / scale, top + py / scale];
    scale = Math.min(Math.max(scale * factor, least), 72 / plan.pitch);
    left = x - px / scale;
    top = y - py / scale;
    keep_inside();
    redraw();
  }

  /** Glides to a view centred on (x, y); jumps for who asked for less motion. */
  function fly(x, y, to_scale, glide = true) {
    cancelAnimationFrame(flight);
    // Never shown yet: the whole venue is shown then.
    if (!wide) return;
    to_scale = Math.min(Math.max(to_scale, least), 72 / plan.pitch);
    const from = { s: scale, x: left + wide / scale / 2, y: top + high / scale / 2 };
    const began = performance.now();
    const calm = !glide || matchMedia("(prefers-reduced-motion:reduce)").matches;
    const step = (at) => {
      const part = calm ? 1 : Math.min(1, Math.max(0, (at - began) / 320));
      const ease = part * part * (3 - 2 * part);
      scale = from.s * (to_scale / from.s) ** ease;
      left = from.x + (x - from.x) * ease - wide / scale / 2;
      top = from.y + (y - from.y) * ease - high / scale / 2;
      keep_inside();
      redraw();
      if (part < 1) flight = requestAnimationFrame(step);
    };
    step(began);
  }

  const whole = (glide = true) => fly(plan.box.x + plan.box.width / 2, plan.box.y + plan.box.height / 2, least, glide);

  function to_section(section) {
    const [x0, x1, y0, y1] = section.box;
    const room = plan.pitch * 3;
    fly((x0 + x1) / 2, (y0 + y1) / 2, Math.max(Math.min(wide / (x1 - x0 + room), high / (y1 - y0 + room)), (SEATS_FROM + 1) / plan.pitch));
  }

  function outline(points, grow) {
    const cx = points.reduce((sum, [x]) => sum + x, 0) / points.length;
    const cy = points.reduce((sum, [, y]) => sum + y, 0) / points.length;
    pen.beginPath();
    for (const [x, y] of points) {
      const away = Math.hypot(x - cx, y - cy) || 1;
      pen.lineTo((x + ((x - cx) / away) * grow - left) * scale, (y + ((y - cy) / away) * grow - top) * scale);
    }
    pen.closePath();
  }

  function draw() {
    if (!plan) return;
    pen.fillStyle = "#0d0720";
    pen.fillRect(0, 0, wide, high);
    for (const area of plan.areas) draw_area(area);
    const near = plan.pitch * scale >= SEATS_FROM;
    for (const section of plan.sections) {
      const [x0, x1, y0, y1] = section.box;
      if ((x1 + plan.pitch - left) * scale < 0 || (x0 - plan.pitch - left) * scale > wide || (y1 + plan.pitch - top) * scale < 0 || (y0 - plan.pitch - top) * scale > high) continue;
      draw_section(section, near);
      if (near) draw_seats(section);
    }
    if (!near) draw_names();
    else if (plan.pitch * scale < TAP_FROM / 2) for (const section of plan.sections) draw_name_below(section);
    if (cursor >= 0) {
      pen.lineWidth = 4;
      pen.strokeStyle = "#fff";
      const r = Math.max(12, plan.pitch * scale * 0.62);
      pen.strokeRect((plan.x[cursor] - left) * scale - r, (plan.y[cursor] - top) * scale - r, 2 * r, 2 * r);
    }
  }

  function draw_section(section, near) {
    const share = section.free / (section.last - section.first);
    outline(section.hull, plan.pitch * 0.75);
    pen.globalAlpha = near ? 0.1 : is_dimmed(section.category) ? 0.12 : section.free ? 0.5 + 0.5 * share : 1;
    pen.fillStyle = !near && !section.free ? "#2b2440" : plan.categories[section.category].color;
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1;
    pen.strokeStyle = near ? "#ffffff40" : "#ffffff73";
    pen.stroke();
  }

  /** Names that would lie upon each other are left out; coming nearer brings them back. */
  function draw_names() {
    const drawn = [];
    const lying_free = (a) => drawn.every((b) => a[1] < b[0] || a[0] > b[1] || a[3] < b[2] || a[2] > b[3]);
    // One way for all of them: the usual size, and the number of seats left only where every section has room for it.
    const sizes = [1, 2].map((lines) => plan.sections.map((section) => fitting(section, lines) * scale).sort((a, b) => a - b));
    const lines = sizes[1][0] >= NAME_LEAST + 1 ? 2 : 1;
    const usual = Math.min(NAME_MOST, sizes[lines - 1][plan.sections.length >> 1]);
    for (const section of plan.sections) {
      const box = draw_name(section, lines, Math.min(usual, fitting(section, lines) * scale), lying_free);
      if (box) drawn.push(box);
    }
  }

  /** The largest letters, in plan units, with which a section's name keeps within its border. */
  function fitting(section, lines) {
    if (section.fits[lines]) return section.fits[lines];
    pen.font = NAME_FONT(100);
    const [name, rest] = name_of_section(section);
    const broad = Math.max(pen.measureText(name).width, lines > 1 ? pen.measureText(rest).width * 0.8 : 0) / 200;
    const tall = lines > 1 ? 1.05 : 0.45;
    const inside = (size) => [-1, 1].every((h) => [-1, 1].every((v) => within(section.hull, section.x + h * broad * size, section.y + v * tall * size)));
    let [low, most] = [0, section.box[3] - section.box[2] + plan.pitch];
    for (let n = 0; n < 12; n++) {
      const middle = (low + most) / 2;
      if (inside(middle)) low = middle;
      else most = middle;
    }
    return (section.fits[lines] = low + plan.pitch * 0.5);
  }

  function draw_name(section, lines, room, has_room) {
    const x = (section.x - left) * scale;
    const y = (section.y - top) * scale;
    if (room < NAME_LEAST * 0.6) return;
    const size = Math.max(NAME_LEAST, room);
    const two = lines > 1;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = NAME_FONT(size);
    const [name, rest] = name_of_section(section);
    const half = pen.measureText(name).width / 2 - 1;
    const box = [x - half, x + half, y - size * (two ? 1.1 : 0.5), y + size * (two ? 1.1 : 0.5)];
    if (!has_room(box)) return;
    text(name, x, two ? y - size * 0.5 : y);
    if (two) {
      pen.font = `600 ${size * 0.8}px system-ui,sans-serif`;
      text(rest, x, y + size * 0.6);
    }
    return box;
  }

  /** Between overview and single seats a name stands under its section's middle, where it hides no seat. */
  function draw_name_below(section) {
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = NAME_FONT(15);
    text(name_of_section(section).join(" · "), ((section.box[0] + section.box[1]) / 2 - left) * scale, (section.box[3] + plan.pitch - top) * scale + 10);
  }

  function text(words, x, y) {
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeStyle = "#0b0618d9";
    pen.strokeText(words, x, y);
    pen.fillStyle = "#fff";
    pen.fillText(words, x, y);
  }

  function draw_seats(section) {
    const p = plan.pitch * scale;
    const r = p * 0.39;
    const free = new Path2D();
    const taken = new Path2D();
    const seen = [];
    for (let i = section.first; i < section.last; i++) {
      const x = (plan.x[i] - left) * scale;
      const y = (plan.y[i] - top) * scale;
      if (x < -p || x > wide + p || y < -p || y > high + p) continue;
      if (is_mine(i) || (p > 15 && plan.state[i] === 0)) seen.push(i);
      const path = plan.state[i] === 0 ? free : taken;
      if (plan.state[i] === 0) {
        if (plan.category[i] !== section.category) continue;
        if (p < 9) path.rect(x - r, y - r, 2 * r, 2 * r);
        else (path.roundRect ?? path.rect).call(path, x - r, y - r, 2 * r, 2 * r, r * 0.55);
      } else if (!is_mine(i)) {
        const s = r * 0.55;
        path.moveTo(x - s, y - s);
        path.lineTo(x + s, y + s);
        path.moveTo(x + s, y - s);
        path.lineTo(x - s, y + s);
      }
    }
    pen.fillStyle = plan.categories[section.category].color;
    pen.globalAlpha = is_dimmed(section.category) ? 0.25 : 1;
    pen.fill(free);
    draw_other_categories(section, r);
    pen.globalAlpha = 1;
    pen.strokeStyle = "#8d80a8";
    pen.lineWidth = Math.max(1, p / 14);
    pen.stroke(taken);
    draw_marks(seen, p, r);
  }

  /** A section whose rows differ in price. */
  function draw_other_categories(section, r) {
    for (let i = section.first; i < section.last; i++) {
      if (plan.category[i] === section.category || plan.state[i] !== 0) continue;
      pen.fillStyle = plan.categories[plan.category[i]].color;
      pen.fillRect((plan.x[i] - left) * scale - r, (plan.y[i] - top) * scale - r, 2 * r, 2 * r);
    }
  }

  function draw_marks(seen, p, r) {
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const i of seen) {
      const x = (plan.x[i] - left) * scale;
      const y = (plan.y[i] - top) * scale;
      if (is_mine(i)) {
        pen.fillStyle = "#fff";
        pen.beginPath();
        pen.arc(x, y, Math.max(7, r * 1.2), 0, 7);
        pen.fill();
        pen.fillStyle = "#5b15a8";
        pen.font = `900 ${Math.max(11, r * 1.6)}px system-ui,sans-serif`;
        pen.fillText("✓", x, y + 1);
      } else if (p > 20) {
        pen.fillStyle = "#12071f";
        pen.font = `800 ${Math.min(20, r * 0.95)}px system-ui,sans-serif`;
        pen.fillText(plan.kinds[i] & ACCESSIBLE ? "♿\uFE0E" : plan.number[i], x, y + 1);
      }
      if (!is_mine(i)) draw_kind(plan.kinds[i], x, y, r);
    }
  }

  /** As the legend under the map has them: a ring for wheelchairs, a broken ring beside them, a cut corner for a poor view. */
  function draw_kind(kinds, x, y, r) {
    pen.strokeStyle = "#fff";
    pen.lineWidth = Math.max(1.5, r / 7);
    if (kinds & (ACCESSIBLE | COMPANION)) {
      pen.setLineDash(kinds & ACCESSIBLE ? [] : [r / 2, r / 3]);
      pen.strokeRect(x - r, y - r, 2 * r, 2 * r);
      pen.setLineDash([]);
    }
    if (kinds & RESTRICTED_VIEW) {
      pen.fillStyle = "#12071f";
      pen.beginPath();
      for (const [dx, dy] of [[0.1, -1], [1, -1], [1, -0.1]]) pen.lineTo(x + dx * r, y + dy * r);
      pen.fill();
    }
  }

  function draw_area(area) {
    pen.save();
    pen.translate((area.x - left) * scale, (area.y - top) * scale);
    pen.rotate(((area.rotation || 0) * Math.PI) / 180);
    pen.beginPath();
    if (area.shape === "rectangle") pen.rect(0, 0, (area.rectangle?.width ?? 0) * scale, (area.rectangle?.height ?? 0) * scale);
    if (area.shape === "circle") pen.arc(0, 0, (area.circle?.radius ?? 0) * scale, 0, 7);
    if (area.shape === "ellipse") pen.ellipse(0, 0, (area.ellipse?.radius?.x ?? 0) * scale, (area.ellipse?.radius?.y ?? 0) * scale, 0, 0, 7);
    if (area.shape === "polygon") for (const point of area.polygon?.points ?? []) pen.lineTo(point.x * scale, point.y * scale);
    pen.fillStyle = area.color || "#2a1a4d";
    pen.strokeStyle = area.border_color || "#ffffff40";
    if (area.shape !== "text") {
      pen.fill();
      pen.stroke();
    }
    if (area.text?.text) {
      pen.font = `900 ${Math.min(40, Math.max(10, (area.text.size || 20) * scale))}px system-ui,sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      text(area.text.text, (area.text.position?.x ?? 0) * scale, (area.text.position?.y ?? 0) * scale);
    }
    pen.restore();
  }

  function within(hull, x, y) {
    let odd = false;
    hull.forEach(([ax, ay], i) => {
      const [bx, by] = hull[(i || hull.length) - 1];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    });
    return odd;
  }

  function section_at(px, py) {
    const [x, y] = [left + px / scale, top + py / scale];
    return plan.sections.find(({ hull }) => within(hull, x, y)) ?? plan.sections.find(({ box }) => x > box[0] - plan.pitch && x < box[1] + plan.pitch && y > box[2] - plan.pitch && y < box[3] + plan.pitch);
  }

  function seat_at(px, py, reach = 26) {
    let best = -1;
    let nearest = reach;
    for (const { box, first, last } of plan.sections) {
      const margin = reach / scale;
      if (left + px / scale < box[0] - margin || left + px / scale > box[1] + margin || top + py / scale < box[2] - margin || top + py / scale > box[3] + margin) continue;
      for (let i = first; i < last; i++) {
        const away = Math.hypot((plan.x[i] - left) * scale - px, (plan.y[i] - top) * scale - py);
        if (away < nearest) [best, nearest] = [i, away];
      }
    }
    return best;
  }

  function tap(px, py) {
    if (plan.pitch * scale >= TAP_FROM) {
      const seat = seat_at(px, py);
      if (seat >= 0) on_pick((cursor = seat));
      return redraw();
    }
    if (plan.pitch * scale >= SEATS_FROM * 2) return fly(left + px / scale, top + py / scale, TAP_AT / plan.pitch);
    const section = section_at(px, py);
    if (section) to_section(section);
  }

  /** The nearest seat in a direction, sideways distance counting double. */
  function step(dx, dy) {
    if (cursor < 0) cursor = seat_at(wide / 2, high / 2, 1e9);
    else {
      let [best, nearest] = [cursor, Infinity];
      for (let i = 0; i < plan.total; i++) {
        const along = (plan.x[i] - plan.x[cursor]) * dx + (plan.y[i] - plan.y[cursor]) * dy;
        const beside = Math.abs((plan.x[i] - plan.x[cursor]) * dy) + Math.abs((plan.y[i] - plan.y[cursor]) * dx);
        if (along > plan.pitch * 0.2 && along + beside * 2 < nearest) [best, nearest] = [i, along + beside * 2];
      }
      cursor = best;
    }
    fly(plan.x[cursor], plan.y[cursor], Math.max(scale, TAP_AT / plan.pitch));
    on_look(cursor);
  }

  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointerdown", (event) => {
    cancelAnimationFrame(flight);
    canvas.setPointerCapture(event.pointerId);
    if (!fingers.size) moved = 0;
    else moved = 99;
    fingers.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was || !plan) return;
    const is = at(event);
    moved += Math.hypot(is.x - was.x, is.y - was.y);
    if (fingers.size === 1 && moved > 8) {
      left -= (is.x - was.x) / scale;
      top -= (is.y - was.y) / scale;
      keep_inside();
      redraw();
    }
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const [before, after] = [was, is].map((p) => Math.hypot(p.x - other.x, p.y - other.y));
      zoom_at((is.x + other.x) / 2, (is.y + other.y) / 2, after / (before || 1));
    }
    fingers.set(event.pointerId, is);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.delete(event.pointerId) && moved <= 8 && plan) tap(at(event).x, at(event).y);
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { x, y } = at(event);
      if (plan) zoom_at(x, y, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const zooms = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 };
    if (!plan || event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) step(...moves[event.key]);
    else if (zooms[event.key]) zoom_at(wide / 2, high / 2, zooms[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && cursor >= 0) on_pick(cursor);
    else if (event.key === "Home") whole();
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => ((cursor = -1), redraw()));
  new ResizeObserver(resize).observe(canvas);

  return {
    redraw,
    whole,
    zoom: (factor) => zoom_at(wide / 2, high / 2, factor),
    to_section,
    to_seat: (i) => fly(plan.x[i], plan.y[i], Math.max(scale, TAP_AT / plan.pitch)),
    load(next) {
      plan = next;
      wide = 0;
      resize();
    },
  };
}
