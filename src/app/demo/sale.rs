//! The demo's sale, stored in its data directory.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{
    app::created_files,
    app::demo::options::DemoOptions,
    demo::sandbox_beacon::SandboxSigner,
    kernel::{Currency, Entropy, LocalText, OsEntropy, Timestamp},
    ops::config::{DrawSettings, PerformanceSettings, QueueOrder, SaleSettings, SignIn},
    platform::{private_file::write_private, signing::hex},
};

/// The file that stores the sale, in the data directory.
const DEMO_FILE: &str = "demo.toml";
const SALE: &str = "hero-lim";
const SALE_LASTS: Duration = Duration::from_hours(6);
/// The period of drand's fastest chain.
const BEACON_PERIOD_S: u32 = 3;

/// The stored sale, so that a restart resumes it.
#[derive(Serialize, Deserialize)]
struct DemoSale {
    sale: SaleSettings,
}

/// Loads the sale of a demo's data directory.
///
/// # Errors
/// When there is none, or the file is of another version.
pub fn load_sale(data: &Path) -> anyhow::Result<SaleSettings> {
    let file = data.join(DEMO_FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let stored: DemoSale =
        toml::from_str(&text).with_context(|| format!("{} is not a demo's sale", file.display()))?;
    Ok(stored.sale)
}

/// Loads the sale of the data directory, or creates one; returns whether it is new.
pub(super) fn load_or_create_sale(
    data: &Path,
    options: &DemoOptions,
    now: Timestamp,
) -> anyhow::Result<(SaleSettings, bool)> {
    let file = data.join(DEMO_FILE);
    if !file.exists() {
        if created_files::is_recorded(data) {
            bail!(
                "{} is missing, and a new sale would contradict what was sold: restore it, or use an empty \
                directory",
                file.display()
            );
        }
        let new = DemoSale {
            sale: new_sale(options, now)?,
        };
        write_private(&file, toml::to_string(&new)?.as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok((new.sale, true));
    }
    let sale = load_sale(data)?;
    if now >= sale.closes_at {
        bail!(
            "the sale in {} closed at {}; use another --data, or none for a new sale",
            data.display(),
            sale.closes_at
        );
    }
    Ok((sale, false))
}

fn new_sale(options: &DemoOptions, now: Timestamp) -> anyhow::Result<SaleSettings> {
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    if options.prequeue_in_s > options.open_in_s {
        bail!("--prequeue-in: visitors join before the sale starts, so it must not be later than --open-in");
    }
    let on_sale_starts_at = now.plus(seconds(options.open_in_s));
    let kind = match options.seats {
        0..3_000 => "theatre",
        3_000..30_000 => "arena",
        _ => "stadium",
    };
    let text = |ko: &str, en: &str, ja: &str| {
        LocalText(
            [("ko", ko), ("en", en), ("ja", ja)]
                .into_iter()
                .map(|(lang, text)| (lang.to_owned(), text.to_owned()))
                .collect(),
        )
    };
    let performance = PerformanceSettings {
        id: "day-1".parse()?,
        title: text(
            "첫째 날 · 별이 빛나는 밤",
            "Day 1 · A night of stars",
            "初日・星の輝く夜",
        ),
        starts_at: performance_start(now),
        doors_open_at: None,
        time_zone: "Asia/Seoul".parse().expect("the database has it"),
        venue: "Hero Dome, Seoul".to_owned(),
        plan: format!("generate:{kind}:{}", options.seats),
        seat_streams_max: 10_000,
        prices: [("VIP", 198_000), ("R", 165_000), ("S", 132_000), ("A", 99_000)]
            .map(|(zone, price)| (zone.to_owned(), price))
            .into(),
        currency: Currency::KRW,
    };
    Ok(SaleSettings {
        id: SALE.parse()?,
        title: text(
            "임히어로 콘서트 — 다시, 우리",
            "Hero-Lim in concert — Us, again",
            "イム・ヒーロー コンサート ―ふたたび、私たち",
        ),
        artist: "Hero-Lim".to_owned(),
        sign_in: SignIn::Customer,
        queue_order: if options.fair_draw {
            QueueOrder::FairDraw
        } else {
            QueueOrder::Fifo
        },
        draw: options.fair_draw.then(|| new_beacon(now)),
        prequeue_starts_at: now.plus(seconds(options.prequeue_in_s)),
        on_sale_starts_at,
        closes_at: on_sale_starts_at.plus(SALE_LASTS),
        admission_rate_per_minute: options.admission_rate_per_minute,
        active_visits_max: options.active_visits_max,
        admission_burst: None,
        call_window_s: 180,
        late_arrival_share: 0.2,
        pass_ttl_s: 120,
        visit_max_s: 1_200,
        queue_entries_max: 1_000_000,
        status_streams_max: 10_000,
        seats_per_customer_max: 4,
        hold_ttl_s: 420,
        hold_extensions_max: 2,
        performances: vec![performance],
    })
}

/// Two months from now, at 19:00 in Seoul.
fn performance_start(now: Timestamp) -> Timestamp {
    const DAY_S: i64 = 24 * 60 * 60;
    Timestamp::from_secs((now.as_secs().div_euclid(DAY_S) + 60) * DAY_S + 10 * 60 * 60)
}

/// A new beacon chain for the sale. Its URL is set at each start.
fn new_beacon(now: Timestamp) -> DrawSettings {
    let mut chain = [0; 32];
    OsEntropy.fill(&mut chain);
    let chain = hex(&chain);
    let public_key = SandboxSigner::of(&chain).public_key();
    DrawSettings {
        beacon_url: String::new(),
        chain,
        genesis_at: now,
        period_s: BEACON_PERIOD_S,
        public_key,
    }
}
