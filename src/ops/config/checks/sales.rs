//! Checks of the sales and their performances.

use std::{collections::HashSet, hash::Hash};

use crate::{
    kernel::{LocalText, invisible_character},
    ops::config::{
        checks::problems::{Problems, is_base_url},
        sales::{PerformanceSettings, QueueOrder, SaleSettings},
        sections::Settings,
    },
    platform::drand::{QUICKNET, QUICKNET_KEY},
    waiting_room::{ACTIVE_VISITS_MAX, ADMISSION_RATE_PER_MINUTE_MAX, Durability, draw::Digest},
};

const DAY_S: u64 = 86_400;
/// Entries of one queue at most; more are taken for a typing error.
const QUEUE_ENTRIES_MAX: u64 = 100_000_000;
/// A price in minor units at most, so that the sum of an order's prices cannot overflow.
const PRICE_MAX: i64 = 1_000_000_000_000;

pub(super) fn sales(settings: &Settings, problems: &mut Problems) {
    let mut sales = HashSet::new();
    for (ix, sale) in settings.sales.iter().enumerate() {
        let path = format!("sales[{ix}]");
        once(&mut sales, &sale.id, &path, problems);
        one_sale(sale, &path, problems);
        problems.add_if(
            sale.queue_order == QueueOrder::FairDraw && settings.waiting_room.durability == Durability::Async,
            "waiting_room.durability",
            "must be \"committed\" for a sale with a fair draw: a confirmed entry must not be missing from \
            the drawn list",
        );
        problems.add_if(
            sale.hold_ttl_s < settings.checkout.payment_timeout_s,
            format!("{path}.hold_ttl_s"),
            format!(
                "must not be shorter than a payment may take, checkout.payment_timeout_s ({})",
                settings.checkout.payment_timeout_s
            ),
        );
        // Or a buyer would be told an end of the hold that comes after the end of the payment.
        problems.add_if(
            sale.hold_ttl_s > settings.checkout.payment_page_timeout_s,
            format!("{path}.hold_ttl_s"),
            format!(
                "must not be longer than the buyer has at the gateway's page, \
                checkout.payment_page_timeout_s ({})",
                settings.checkout.payment_page_timeout_s
            ),
        );
        let mut performances = HashSet::new();
        for (ix, performance) in sale.performances.iter().enumerate() {
            let path = format!("{path}.performances[{ix}]");
            once(&mut performances, &performance.id, &path, problems);
            one_performance(performance, &path, problems);
        }
    }
}

fn one_sale(sale: &SaleSettings, path: &str, problems: &mut Problems) {
    let key = |name: &str| format!("{path}.{name}");
    local_text(&sale.title, &key("title"), problems);
    visible(&sale.artist, &key("artist"), problems);
    draw(sale, path, problems);
    problems.add_if(
        sale.prequeue_starts_at > sale.on_sale_starts_at,
        key("prequeue_starts_at"),
        format!("must not be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
    problems.add_if(
        sale.closes_at <= sale.on_sale_starts_at,
        key("closes_at"),
        format!("must be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
    problems.require_positive(
        &[
            ("admission_rate_per_minute", sale.admission_rate_per_minute.into()),
            ("active_visits_max", sale.active_visits_max.into()),
            ("admission_burst", sale.admission_burst.unwrap_or(1).into()),
            ("call_window_s", sale.call_window_s.into()),
            ("pass_ttl_s", sale.pass_ttl_s.into()),
            ("visit_max_s", sale.visit_max_s.into()),
            ("queue_entries_max", sale.queue_entries_max.into()),
            ("seats_per_customer_max", sale.seats_per_customer_max.into()),
            ("hold_ttl_s", sale.hold_ttl_s.into()),
        ],
        path,
    );
    problems.require_at_most(
        &[
            (
                "admission_rate_per_minute",
                sale.admission_rate_per_minute.into(),
                ADMISSION_RATE_PER_MINUTE_MAX.into(),
            ),
            (
                "active_visits_max",
                sale.active_visits_max.into(),
                ACTIVE_VISITS_MAX.into(),
            ),
            (
                "admission_burst",
                sale.admission_burst.unwrap_or(1).into(),
                ACTIVE_VISITS_MAX.into(),
            ),
            ("call_window_s", sale.call_window_s.into(), DAY_S),
            ("visit_max_s", sale.visit_max_s.into(), DAY_S),
            (
                "queue_entries_max",
                sale.queue_entries_max.into(),
                QUEUE_ENTRIES_MAX,
            ),
        ],
        path,
    );
    problems.add_if(
        !(0.0..=1.0).contains(&sale.late_arrival_share),
        key("late_arrival_share"),
        "must be between 0.0 and 1.0",
    );
    problems.add_if(
        sale.pass_ttl_s > sale.visit_max_s,
        key("pass_ttl_s"),
        format!("must not be longer than visit_max_s ({})", sale.visit_max_s),
    );
    problems.add_if(
        sale.hold_ttl_s > sale.visit_max_s,
        key("hold_ttl_s"),
        format!("must not be longer than visit_max_s ({})", sale.visit_max_s),
    );
    problems.add_if(
        sale.performances.is_empty(),
        key("performances"),
        "there must be at least one [[sales.performances]]",
    );
}

/// A fair draw needs a beacon that the operator of the sale cannot influence.
fn draw(sale: &SaleSettings, path: &str, problems: &mut Problems) {
    let key = |name: &str| format!("{path}.draw.{name}");
    let Some(draw) = &sale.draw else {
        let wrong = sale.queue_order == QueueOrder::FairDraw;
        problems.add_if(
            wrong,
            format!("{path}.queue_order"),
            "fair_draw needs [sales.draw], which names the beacon; else it must be fifo",
        );
        return;
    };
    problems.add_if(
        sale.queue_order == QueueOrder::Fifo,
        format!("{path}.draw"),
        "must not be given when queue_order is \"fifo\"",
    );
    problems.add_if(
        !is_base_url(&draw.beacon_url),
        key("beacon_url"),
        "must be https://HOST or http://HOST without a slash at the end",
    );
    problems.add_if(
        draw.chain.parse::<Digest>().is_err(),
        key("chain"),
        "must be the chain's hash, 64 hexadecimal digits",
    );
    problems.add_if(
        draw.period_s == 0 || draw.period_s > 600,
        key("period_s"),
        "must be between 1 and 600",
    );
    problems.add_if(
        draw.chain.eq_ignore_ascii_case(QUICKNET) && draw.public_key.to_string() != QUICKNET_KEY,
        key("public_key"),
        "is not the public key of this chain, which is quicknet",
    );
    problems.add_if(
        draw.genesis_at > sale.on_sale_starts_at,
        key("genesis_at"),
        format!("must not be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
}

fn one_performance(performance: &PerformanceSettings, path: &str, problems: &mut Problems) {
    let key = |name: &str| format!("{path}.{name}");
    local_text(&performance.title, &key("title"), problems);
    visible(&performance.venue, &key("venue"), problems);
    problems.add_if(
        performance.time_zone.is_empty(),
        key("time_zone"),
        "must be given: the venue's time zone in the IANA database, such as \"Asia/Seoul\"",
    );
    problems.add_if(
        performance.doors_open_at() > performance.starts_at,
        key("doors_open_at"),
        format!("must not be after starts_at ({})", performance.starts_at),
    );
    problems.add_if(
        performance.plan.is_empty(),
        key("plan"),
        "must be a plan's file, or generate:KIND:SEATS",
    );
    problems.add_if(
        performance.prices.is_empty(),
        key("prices"),
        "must give the price of each price zone of the plan, such as { VIP = 198000, R = 165000 }",
    );
    for (zone, amount) in &performance.prices {
        problems.add_if(
            !(0..=PRICE_MAX).contains(amount),
            key(&format!("prices.{zone}")),
            format!("must be between 0 and {PRICE_MAX}"),
        );
    }
}

pub(super) fn local_text(text: &LocalText, key: &str, problems: &mut Problems) {
    problems.add_if(
        text.0.is_empty(),
        key,
        "must be given in at least one language, such as { en = \"...\" }",
    );
    for (language, words) in &text.0 {
        problems.add_if(
            !matches!(language.as_str(), "ko" | "en" | "ja"),
            format!("{key}.{language}"),
            "is not a language of the pages: ko, en, ja",
        );
        problems.add_if(
            words.trim().is_empty(),
            format!("{key}.{language}"),
            "must not be empty",
        );
        visible(words, &format!("{key}.{language}"), problems);
    }
}

/// A text that pages and tickets show holds nothing that the eye cannot see.
fn visible(text: &str, key: &str, problems: &mut Problems) {
    if let Some(c) = invisible_character(text) {
        let sentence = format!("holds an invisible character (U+{:04X})", u32::from(c));
        problems.add_if(true, key, sentence);
    }
}

fn once<'s, I: Eq + Hash + std::fmt::Display>(
    seen: &mut HashSet<&'s I>,
    id: &'s I,
    path: &str,
    problems: &mut Problems,
) {
    problems.add_if(
        !seen.insert(id),
        format!("{path}.id"),
        format!("{id} is there twice; each id must be given once"),
    );
}
