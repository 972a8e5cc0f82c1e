//! The HTML report of the overload measurement.

use std::fmt::Write;

use super::result::{OverloadResult, Stage};
use crate::report::{Line, page_head, plot};

/// The report.
pub(super) fn page(result: &OverloadResult) -> String {
    let mut out = page_head("Overload");
    let _ = write!(
        out,
        "<p>{}<br>{}<br>Saturating load {:.0} fans a second; at ten times that, {:.2} of the peak goodput; \
         refusals \
         {:.2} ms at the median.</p>",
        result.machine, result.service, result.saturating_per_s, result.goodput_ratio, result.refusal_p50_ms
    );
    let line = |name, of: fn(&Stage) -> f64| Line {
        name,
        points: result
            .stages
            .iter()
            .map(|stage| (stage.factor, of(stage)))
            .collect(),
    };
    let ticks: Vec<(f64, String)> = result
        .stages
        .iter()
        .map(|stage| (stage.factor, format!("{}x", stage.factor)))
        .collect();
    out += &plot(
        "tickets a second by load, in multiples of the saturating load",
        &[line("tickets", |stage| stage.goodput_per_s)],
        &ticks,
    );
    out += &plot(
        "joins a second",
        &[line("joins", |stage| stage.joins_per_s)],
        &ticks,
    );
    out += &plot(
        "latency, ms",
        &[
            line("hold p99", |stage| stage.hold.p99_ms),
            line("order p99", |stage| stage.order.p99_ms),
            line("refusal p50", |stage| stage.refusal.p50_ms),
        ],
        &ticks,
    );
    out + "</html>\n"
}
