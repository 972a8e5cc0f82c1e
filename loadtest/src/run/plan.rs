//! Checks the arguments of a run and derives its crowd and its sale.

use std::time::Duration;

use anyhow::{Context, bail};
use stagedoor::kernel::Timestamp;

use super::args::{CrowdArgs, RunKind};
use crate::{
    arrivals::{Shape, times},
    crowd::{CrowdConfig, StatusPolling},
    environment::{HANDOFF_SECRET, SaleSpec, Service, ServiceArgs},
    result::parse_part,
};

/// A checked run.
pub struct RunPlan {
    /// The settings in words.
    pub what: String,
    /// The sale of a service that is started.
    pub sale: SaleSpec,
    /// When the crowd starts to arrive; at once when `None`.
    pub start_at: Option<Timestamp>,
    arrivals: Vec<Duration>,
    part: (u32, u32),
    pace: f64,
    visit_pace: f64,
    polling: StatusPolling,
}

impl RunPlan {
    /// Checks the arguments.
    ///
    /// # Errors
    /// Names the wrong argument.
    pub fn new(kind: RunKind, service: &ServiceArgs, crowd: &CrowdArgs) -> anyhow::Result<Self> {
        let part = match &crowd.part {
            None => (1, 1),
            Some(text) => parse_part(text)
                .with_context(|| format!("--part {text}: must be N/COUNT, both from 1, such as 2/3"))?,
        };
        if part.1 > 1 && (service.target.is_none() || crowd.start_at.is_none()) {
            bail!("--part: parts of one run need the same --target and the same --start-at");
        }
        for (key, share) in [("--absent", crowd.absent), ("--abandon-hold", crowd.abandon_hold)] {
            if !(0.0..=1.0).contains(&share) {
                bail!("{key} {share}: must be a share from 0 to 1");
            }
        }
        let pace = kind.default_of(crowd.pace, 0.1, 0.2);
        let visit_pace = crowd.visit_pace.unwrap_or(pace);
        for (key, pace) in [("--pace", pace), ("--visit-pace", visit_pace)] {
            if !(pace.is_finite() && pace >= 0.0) {
                bail!("{key} {pace}: must be 0 or more");
            }
        }
        let fans = kind.default_of(crowd.fans, 2_000, 1_000_000);
        let shape = kind.default_of(crowd.arrivals.clone(), Shape::Poisson, Shape::Flash);
        let within = Duration::from_secs(u64::from(kind.default_of(crowd.within, 30, 60)));
        let polling = kind.default_of(crowd.polling, StatusPolling::Direct, StatusPolling::Cached);
        let arrivals = times(&shape, fans, within, crowd.seed)?;
        Ok(Self {
            what: format!(
                "{}: {fans} fans, {shape} within {within:?}, seed {}, pace {pace}, {visit_pace} in visits, \
                 {:.0} % absent, polling {polling:?}, {} bots, {} streams",
                kind.name(),
                crowd.seed,
                crowd.absent * 100.0,
                crowd.bots,
                crowd.streams
            ),
            sale: SaleSpec {
                seats: kind.default_of(service.seats, 500, 66_000),
                admission_rate_per_minute: kind.default_of(service.admission_rate, 6_000, 12_000),
                active_visits_max: kind.default_of(service.active_visits_max, 500, 4_000),
                visit_max_s: service.visit_max,
                hold_ttl_s: service.hold_ttl,
                // The observer has an entry too.
                queue_entries_max: fans.saturating_add(crowd.bots * 10 + 1).max(1_000),
                open_in: Duration::from_secs(u64::from(kind.default_of(crowd.open_in, 5, 70))),
                status_streams_max: crowd.streams.max(1),
            },
            start_at: parse_start(crowd)?,
            arrivals: arrivals_of_part(&arrivals, part),
            part,
            pace,
            visit_pace,
            polling,
        })
    }

    /// The crowd at this service.
    ///
    /// # Errors
    /// The sale requires a sign-in that the crowd cannot make, or has no performance.
    pub fn crowd(&self, args: &CrowdArgs, service: &Service) -> anyhow::Result<CrowdConfig> {
        if service.sale.sign_in != "none" && service.shop.is_none() {
            bail!(
                "sale {} requires a sign-in, and a crowd knows no passwords: configure the shop's hand-off \
                 with \
                 --handoff-issuer, --handoff-audience and {HANDOFF_SECRET} in the environment",
                service.sale.id
            );
        }
        let performance = service
            .sale
            .performances
            .first()
            .context("a sale without a performance")?;
        Ok(CrowdConfig {
            sale: service.sale.id.clone(),
            performance: performance.id.clone(),
            shop: service.shop.clone(),
            arrivals: self.arrivals.clone(),
            first: self.part.0,
            every: self.part.1,
            seed: args.seed,
            pace: self.pace,
            visit_pace: self.visit_pace,
            absent: args.absent,
            abandon_hold: args.abandon_hold,
            single_seats: false,
            good_cards: false,
            polling: self.polling,
            streams: args.streams,
            bots: args.bots,
            limit: Duration::from_secs(u64::from(args.limit)),
        })
    }
}

fn parse_start(crowd: &CrowdArgs) -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = &crowd.start_at else {
        return Ok(None);
    };
    let time = text.parse().ok();
    let time =
        time.with_context(|| format!("--start-at {text}: must be RFC 3339, such as 2027-03-02T11:00:00Z"))?;
    Ok(Some(time))
}

/// Every `count`-th visitor, starting with the `n`-th.
fn arrivals_of_part(all: &[Duration], (n, count): (u32, u32)) -> Vec<Duration> {
    all.iter()
        .skip(n as usize - 1)
        .step_by(count as usize)
        .copied()
        .collect()
}
