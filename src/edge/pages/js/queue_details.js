// Details for a waiting visitor. Loaded after the page, with its texts: they would not fit into the first round trip.
import { kept, people_in } from "./queue_math.js";
import { seat_chance } from "./seat_chance.js";
import { lang, fill, put, count } from "./i18n.js";

const words = {
  en: {
    online: "About {n} of them have this page open at the moment.",
    zones: "Seats left",
    zone: "{zone}",
    left: "{n} left",
    in_baskets: "All in baskets",
    gone: "Sold out",
    only_wheelchairs: "Only wheelchair places",
    likely: "Likely still there at your turn",
    uncertain: "May be gone by your turn",
    unlikely: "Probably gone before your turn",
    chance: "The chance that a seat is left at your turn is about {n} %.",
    none_left: "There will probably be no seat left at your turn. Your place is kept: seats that come back are offered in the order of the queue.",
    no_wait: "No time can be given",
    guess: "This is an estimate from sales so far and may change.",
    more: "How waiting works here",
    accuracy: "Of the waiting times we have shown so far, {n} in 10 were right.",
    late_arrivals: "If you miss your call, you can still come in later. While others wait, at most {n} in 100 admissions go to visitors who come back.",
    missed: "Up to {n} in 100 entries are accuracy for those who come back, in the order of the queue.",
    rate_lowered: "People go in a little more slowly now, so the wait has grown.",
    box_office_busy: "Booking is busy inside, so people go in a little more slowly for the moment.",
    visit_limit_lowered: "Fewer people are let in at once now, so the wait has grown.",
    all_seats_held: "All remaining seats are in other people's baskets. Seats that come back are offered in the order of the queue.",
    only_wheelchair_spaces: "Only wheelchair places are left. Your place is kept: seats that come back are offered in the order of the queue.",
    slower_than_forecast: "More people than expected came when called, or stay longer inside, so the wait has grown.",
    at_capacity: "It is full inside at the moment. People go in as others come out.",
  },
  ko: {
    online: "그중 약 {n}명이 지금 이 화면을 열어 두고 계십니다.",
    zones: "남은 좌석",
    zone: "{zone}석",
    left: "{n}석 남음",
    in_baskets: "모두 선택 중",
    gone: "매진",
    only_wheelchairs: "휠체어석만 남음",
    likely: "내 차례에도 남아 있을 것 같습니다",
    uncertain: "내 차례에는 없을 수도 있습니다",
    unlikely: "내 차례 전에 매진될 것 같습니다",
    chance: "내 차례에 좌석이 남아 있을 가능성은 약 {n}%입니다.",
    none_left: "내 차례에는 남은 좌석이 없을 것 같습니다. 순서는 그대로 유지되며, 다시 나오는 좌석은 순서대로 안내해 드립니다.",
    no_wait: "시간을 알려 드릴 수 없습니다",
    guess: "지금까지 팔린 속도로 헤아린 것이라 달라질 수 있습니다.",
    more: "대기는 이렇게 진행됩니다",
    accuracy: "지금까지 알려 드린 대기 시간은 10번 가운데 {n}번 맞았습니다.",
    late_arrivals: "차례를 놓치신 분도 나중에 들어오실 수 있습니다. 다른 분들이 기다리시는 동안에는 입장 100번 가운데 많아야 {n}번입니다.",
    missed: "돌아오신 분들을 위해 입장 100번 가운데 {n}번까지 따로 마련해 두었습니다. 대기 번호 순서대로 들어가십니다.",
    rate_lowered: "입장 속도를 늦추어 시간이 길어졌습니다.",
    box_office_busy: "예매창이 붐벼 잠시 천천히 모시고 있습니다.",
    visit_limit_lowered: "동시에 들어가는 인원을 줄여 시간이 길어졌습니다.",
    all_seats_held: "남은 좌석을 모두 다른 분들이 고르고 계십니다. 다시 나오는 좌석은 대기 순서대로 안내해 드립니다.",
    only_wheelchair_spaces: "휠체어석만 남았습니다. 순서는 그대로 유지되며, 다시 나오는 좌석은 순서대로 안내해 드립니다.",
    slower_than_forecast: "예상보다 많은 분이 들어오시거나 오래 계셔서 시간이 길어졌습니다.",
    at_capacity: "지금 안이 가득 차서, 나오시는 분이 계실 때마다 한 분씩 모시고 있습니다.",
  },
  ja: {
    online: "そのうち約{n}人が、いまこの画面を開いています。",
    zones: "残りの座席",
    zone: "{zone}席",
    left: "残り{n}席",
    in_baskets: "すべて選択中",
    gone: "完売",
    only_wheelchairs: "車いす席のみ",
    likely: "順番のころも残っていそうです",
    uncertain: "順番の前になくなるかもしれません",
    unlikely: "順番の前に完売しそうです",
    chance: "順番のころにお席が残っている可能性は約{n}%です。",
    none_left: "順番のころには、お席が残っていない見込みです。順番はそのまま保たれ、戻ったお席は順番どおりにご案内します。",
    no_wait: "お伝えできません",
    guess: "これまでの売れ行きからの見込みで、変わることがあります。",
    more: "順番待ちのしくみ",
    accuracy: "これまでにお伝えした待ち時間は、10回のうち{n}回当たりました。",
    late_arrivals: "呼ばれたときにいらっしゃらなかった方も、あとから入場できます。ほかの方がお待ちの間は、入場100回のうち多くても{n}回です。",
    missed: "戻られた方のために、入場100回のうち{n}回までをご用意しています。順番どおりにご案内します。",
    rate_lowered: "ご入場のペースを落としたため、お待ち時間が延びました。",
    box_office_busy: "購入手続きが混み合っているため、ご入場のペースを一時的に落としています。",
    visit_limit_lowered: "同時にご入場いただく人数を減らしたため、お待ち時間が延びました。",
    all_seats_held: "残りのお席はすべて、ほかの方が選択中です。戻ったお席は順番どおりにご案内します。",
    only_wheelchair_spaces: "残りは車いす席のみです。順番はそのまま保たれ、戻ったお席は順番どおりにご案内します。",
    slower_than_forecast: "予想より多くの方が入場されたか、長くご利用のため、お待ち時間が延びました。",
    at_capacity: "ただいま満員のため、空き次第順にご案内します。",
  },
}[lang];
const t = (key, values) => fill(words[key] ?? "", values);
/** With fewer waits that are over it would say little. */
const ACCURACY_MIN = 50;

function node(tag, className = "", ...inside) {
  const made = Object.assign(document.createElement(tag), { className });
  made.append(...inside);
  return made;
}

/** A view that a visitor with a place comes to. */
export async function arrived(view, sale, facts) {
  const waits = ["prequeue", "waiting"].includes(view);
  // A crowd waits: only those who chose seats in another sale ask for them.
  if (!waits || kept("sd_held")) (await import("./own_holds.js")).show_holds();
  if (waits && facts?.call_notices) (await import("./call_notice.js")).offer(sale);
  if (waits) return (await import("./other_device.js")).offer(sale, facts?.sign_in === "customer");
  if (view === "left") (await import("./after_visit.js")).show_end(sale, facts?.limits?.seats_per_customer_max);
}

const [online, reason, guess, accuracy, late_arrivals, missed, chance] = Array.from({ length: 7 }, () => node("p", "soft"));
const heading = node("h3", "", t("zones"));
const zones = node("ul", "zones");
document.querySelector("[data-view=waiting] .big").after(online);
document.querySelector("[data-view=waiting] .wait").after(chance, reason);
document.querySelector("[data-view=missed] .go").after(missed);
document.getElementById("more").append(heading, zones, guess, node("details", "", node("summary", "", t("more")), node("div", "stack", late_arrivals, accuracy)));

/** People ahead whose page is open, extrapolated from the heartbeat sample; `null` when it is too small. */
function online_ahead(distance, status) {
  let before = 0;
  let sum = 0;
  for (const [upto, percent] of status.presence?.online ?? []) {
    const people = people_in(Math.min(upto, distance), status);
    sum += ((people - before) * percent) / 100;
    if (distance <= upto) return sum;
    before = people;
  }
  return null;
}

/** Whether a zone will have seats: `available_to_distance` holds the distances up to which the chance is above 80, 50, 20 %. */
function chance_of({ free, available_to_distance }, distance) {
  if (!free || !available_to_distance) return "";
  const [likely, , unlikely] = available_to_distance.map((upto) => upto ?? Infinity);
  return distance <= likely ? "likely" : distance <= unlikely ? "uncertain" : "unlikely";
}

function tell(line, text) {
  put(line, text);
  line.hidden = !text;
}

const left_of = ({ free, held, free_for_wheelchairs }) => (free ? "left" : held ? "in_baskets" : free_for_wheelchairs ? "only_wheelchairs" : "gone");

function tell_zones(list, distance) {
  const rows = list.map((zone) => [t("zone", zone), t(left_of(zone), { n: count(zone.free) }), chance_of(zone, distance)]);
  const is_news = zones.dataset.rows !== JSON.stringify(rows);
  zones.dataset.rows = JSON.stringify(rows);
  heading.hidden = !rows.length;
  tell(guess, rows.some(([, , chance]) => chance) ? t("guess") : "");
  if (is_news) zones.replaceChildren(...rows.map(([name, left, chance]) => node("li", chance, node("b", "", name), node("span", "", left), node("small", "", t(chance)))));
}

/** Nothing is said of a chance of 80 % or more; below 20 % no time, as there may be no call to wait for. */
function tell_chance(percent) {
  tell(chance, percent == null || percent > 80 ? "" : t(percent < 20 ? "none_left" : "chance", { n: percent }));
  if (percent == null || percent >= 20) return;
  put(document.querySelector("[data-fill=wait]"), t("no_wait"));
  put(document.querySelector("[data-fill=around]"), "");
}

export function show_details(status, distance) {
  if (!status) return;
  const share = { n: status.late_arrival_percent };
  tell(missed, t("missed", share));
  if (distance == null) return;
  const present = online_ahead(distance, status);
  // What is estimated is not said to the last digit.
  tell(online, present >= 10 ? t("online", { n: count(Number(present.toPrecision(2))) }) : "");
  tell_chance(seat_chance(status.available_to_distance, distance));
  tell(reason, t(status.reason));
  tell(late_arrivals, t("late_arrivals", share));
  const { hits, total } = status.forecast_accuracy ?? { total: 0 };
  tell(accuracy, total >= ACCURACY_MIN ? t("accuracy", { n: Math.round((10 * hits) / total) }) : "");
  tell_zones(status.zones ?? [], distance);
}
