// The same seats as words and buttons: for screen readers and for visitors who prefer a list.
import { t, put, count } from "./i18n.js";
import { money } from "./money.js";
import { label, kinds_of } from "./plan.js";

export function seat_list(box, { on_pick, is_mine, price_of, words_of, state_in_words }) {
  let plan;
  let buttons = new Map();

  function load(next) {
    if (plan === next) return refresh(buttons.keys());
    plan = next;
    buttons = new Map();
    box.replaceChildren(...plan.sections.map(section_entry));
  }

  function section_entry(section) {
    const entry = document.createElement("details");
    const head = document.createElement("summary");
    const left = document.createElement("span");
    head.append(t("seats.section", { section: section.name }), left);
    entry.append(head);
    section.left = left;
    count_left(section);
    // Rows are made when they are looked at: tens of thousands of buttons at once would choke a phone.
    entry.addEventListener("toggle", () => {
      if (!entry.open || entry.childElementCount > 1) return;
      for (const row of plan.rows.slice(...section.rows)) entry.append(...row_entry(row));
    });
    return entry;
  }

  function row_entry(row) {
    const heading = document.createElement("h3");
    const { zone } = label(plan, row.first);
    const price = price_of(zone);
    heading.textContent = t("seats.row", { row: row.name, zone, price: price ? money(price) : "" });
    const line = document.createElement("div");
    line.className = "row";
    for (let i = row.first; i < row.last; i++) {
      const button = document.createElement("button");
      const state = document.createElement("small");
      const kinds = kinds_of(plan, i);
      const kind = kinds.length ? [Object.assign(document.createElement("small"), { className: "kind", textContent: kinds.map((key) => t(key)).join(", ") })] : [];
      button.append(plan.number[i], ...kind, state);
      button.onclick = () => on_pick(i);
      buttons.set(i, button);
      line.append(button);
      dress(i, button);
    }
    return [heading, line];
  }

  function dress(i, button) {
    const mine = is_mine(i);
    button.disabled = plan.state[i] !== 0 && !mine;
    button.ariaPressed = String(mine);
    button.ariaLabel = `${words_of(i)}, ${state_in_words(i)}`;
    put(button.lastChild, mine ? `✓ ${t("seats.state.mine")}` : t(plan.state[i] ? "seats.state.taken" : "seats.state.free"));
  }

  function count_left(section) {
    const zone = plan.categories[section.category].name;
    put(section.left, `${t("seats.zone", { zone })} · ${section.free ? t("seats.left", { n: count(section.free) }) : t("seats.none")}`);
  }

  let before = [];
  function refresh(seats) {
    if (!plan) return;
    const list = [...seats];
    const sections = new Set();
    for (const i of [...list, ...before]) {
      if (buttons.has(i)) dress(i, buttons.get(i));
      sections.add(plan.sections[plan.section_of[i]]);
    }
    before = list.filter(is_mine);
    for (const section of sections) if (section.left) count_left(section);
  }

  return { load, refresh };
}
