//! One stage: a crowd at a fixed rate against a service.

use std::{sync::Arc, time::Duration};

use super::{
    args::OverloadArgs,
    result::{RefusedCalls, Stage},
};
use crate::{
    arrivals::{Shape, times},
    crowd::{Crowd, CrowdConfig, StatusPolling},
    environment::{PERFORMANCE, SALE, SaleSpec, Service, ServiceArgs, VISIT_MAX_S},
    http1::Http1Client,
    recorder::{Latency, Second},
};

/// Seconds at the start of a stage that do not count.
pub(super) const WARM_UP_S: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than there are calls in flight: a refusal must not wait for a connection of the crowd.
const CONNECTIONS: usize = 8_192;

/// A fresh service whose admission limits nothing.
pub(super) async fn start_service(args: &OverloadArgs) -> anyhow::Result<Service> {
    let spec = SaleSpec {
        seats: 100_000,
        // Far more than any service bears: admission protects nothing here.
        admission_rate_per_minute: 1_200_000,
        active_visits_max: 20_000,
        visit_max_s: VISIT_MAX_S,
        hold_ttl_s: 60,
        queue_entries_max: 4_000_000,
        open_in: Duration::ZERO,
        status_streams_max: 10,
    };
    Service::prepare(&ServiceArgs::started(args.backend, args.pin.clone()), &spec).await
}

/// Sends `rate` visitors a second for `seconds`. The stage's figures, and all its seconds.
pub(super) async fn run_stage(
    service: &Service,
    factor: f64,
    rate: f64,
    seconds: u32,
) -> anyhow::Result<(Stage, Vec<Second>)> {
    let length = Duration::from_secs(u64::from(seconds));
    let target = &service.target;
    let client = Http1Client::new(target.address, &target.authority, CONNECTIONS, TIMEOUT);
    let crowd = Arc::new(Crowd::new(crowd_config(rate, length)?, client));
    let sample = || {
        (
            service.usage().map_or(0, |usage| usage.rss_kib),
            crowd.log.counts().0,
        )
    };
    let quarter = async {
        tokio::time::sleep(length / 4).await;
        sample()
    };
    let ((rss_quarter_kib, joined_quarter), ()) = tokio::join!(quarter, crowd.run());
    let (rss_end_kib, joined_end) = sample();
    let series = crowd.recorder.seconds();
    let counted = &series[WARM_UP_S.min(series.len())..(seconds as usize).min(series.len())];
    let stage = Stage {
        factor,
        offered_per_s: rate,
        goodput_per_s: per_second(counted, |second| second.tickets),
        joins_per_s: per_second(counted, |second| second.joins),
        rss_quarter_kib,
        rss_end_kib,
        joined_between: u64::from(joined_end.saturating_sub(joined_quarter)),
        ..latencies(&crowd)
    };
    print(&stage, &crowd);
    Ok((stage, series))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most four million visitors"
)]
fn crowd_config(rate: f64, length: Duration) -> anyhow::Result<CrowdConfig> {
    let fans = (rate * length.as_secs_f64()).ceil().clamp(1.0, 4e6) as u32;
    Ok(CrowdConfig {
        sale: SALE.to_owned(),
        performance: PERFORMANCE.to_owned(),
        shop: None,
        arrivals: times(&Shape::Poisson, fans, length, length.as_secs())?,
        first: 1,
        every: 1,
        seed: 1,
        pace: 0.0,
        visit_pace: 0.0,
        absent: 0.0,
        abandon_hold: 0.0,
        single_seats: true,
        good_cards: true,
        polling: StatusPolling::Cached,
        streams: 0,
        bots: 0,
        limit: length,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
fn per_second(seconds: &[Second], of: fn(&Second) -> u64) -> f64 {
    seconds.iter().map(of).sum::<u64>() as f64 / seconds.len().max(1) as f64
}

/// The part of a stage's figures that the recorder has.
fn latencies(crowd: &Crowd) -> Stage {
    let calls = crowd.recorder.calls();
    let refusal = calls
        .values()
        .fold(Latency::default(), |sum, stats| sum.merged(&stats.refused));
    let refused = calls
        .iter()
        .filter(|(_, stats)| stats.refused.count > 0)
        .map(|(call, stats)| {
            let figures = RefusedCalls {
                count: stats.refused.count,
                p50_ms: stats.refused.p50_ms,
            };
            (call.clone(), figures)
        });
    let answered = |name: &str| {
        calls
            .get(name)
            .map(|stats| stats.answered.clone())
            .unwrap_or_default()
    };
    Stage {
        refused: refusal.count,
        failed: calls.values().map(|stats| stats.failed).sum(),
        refused_by_call: refused.collect(),
        refusal,
        hold: answered("hold"),
        order: answered("order"),
        ..Stage::default()
    }
}

fn print(stage: &Stage, crowd: &Crowd) {
    let errors = if stage.failed == 0 {
        String::new()
    } else {
        format!("; {:?}", crowd.recorder.errors())
    };
    println!(
        "{:>7.0} fans/s ({:>4}x): {:>6.1} tickets/s, {:>7.1} joins/s; {} refused (median {:.2} ms), {} \
         failed; \
         hold p99 {:.1} ms, order p99 {:.1} ms; {} MiB{errors}",
        stage.offered_per_s,
        stage.factor,
        stage.goodput_per_s,
        stage.joins_per_s,
        stage.refused,
        stage.refusal.p50_ms,
        stage.failed,
        stage.hold.p99_ms,
        stage.order.p99_ms,
        stage.rss_end_kib >> 10
    );
}
