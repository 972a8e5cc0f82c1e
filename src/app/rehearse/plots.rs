//! The HTML page of a rehearsal, with plots of one sale of each scenario.

use std::fmt::Write;

use crate::simulate::{HistoryPoint, Rehearsal, SaleHistory, Scenario, ScenarioReport};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 22.0;

/// A self-contained HTML page.
pub(super) fn page<'a>(
    first: impl Iterator<Item = (&'a Scenario, &'a Rehearsal)>,
    verdicts: &[ScenarioReport],
) -> String {
    let mut out = String::from(
        "<!doctype html><html lang=\"en\"><meta \
        charset=\"utf-8\"><title>Rehearsal</title><style>body{font:14px/1.4 system-ui;margin:2em;\
         max-width:1500px}svg{margin:0 1em 1em 0}h2{margin:1.5em 0 0}p{margin:.2em 0 .8em}\
         text{font:11px system-ui;fill:#444}</style>\
         <h1>Rehearsal</h1><p>One sale of each scenario; time in minutes after the opening.</p>",
    );
    for ((scenario, rehearsal), verdict) in first.zip(verdicts) {
        let course = &rehearsal.history;
        let it = &verdict.metrics;
        let _ = write!(
            out,
            "<h2>{}</h2><p>{}. Seed {}. Over {} sales: coverage {}, score {}, median error {}, slots in use \
            {}.{}</p>",
            scenario.name,
            scenario.description,
            rehearsal.seed,
            it.runs,
            super::figure(it.forecast_score.coverage),
            super::figure(it.forecast_score.interval_score_ratio),
            super::figure(it.forecast_score.p50_error),
            super::figure(it.slot_use),
            course
                .sold_out_s
                .map_or_else(String::new, |s| format!(" Sold out after {} min.", s / 60)),
        );
        out += &plot(
            course,
            "waiting",
            &[("waiting", "#06c", &|p| Some(f64::from(p.waiting)))],
            None,
        );
        out += &plot(
            course,
            "entries",
            &[("entries", "#080", &|p| Some(as_f64(p.entries)))],
            None,
        );
        out += &plot(
            course,
            "active (line: capacity)",
            &[("active", "#a60", &|p| Some(f64::from(p.active_visits)))],
            Some(course.active_visits_max.into()),
        );
        out += &plot(
            course,
            "wait of a visitor who joins last, minutes: forecast p10 to p90 (grey) and p50 (blue), actual \
            (red)",
            &[
                ("p10", "#bbb", &|p| p.wait_s.map(|w| f64::from(w[0]) / 60.0)),
                ("p90", "#bbb", &|p| p.wait_s.map(|w| f64::from(w[2]) / 60.0)),
                ("p50", "#06c", &|p| p.wait_s.map(|w| f64::from(w[1]) / 60.0)),
                ("actual", "#c00", &|p| p.actual_s.map(|s| f64::from(s) / 60.0)),
            ],
            None,
        );
    }
    out + "</html>\n"
}

type Line<'a> = (&'a str, &'a str, &'a dyn Fn(&HistoryPoint) -> Option<f64>);

fn plot(course: &SaleHistory, title: &str, lines: &[Line<'_>], level: Option<f64>) -> String {
    let values = || {
        course
            .points
            .iter()
            .flat_map(|p| lines.iter().filter_map(|(_, _, of)| of(p)))
    };
    let top = values().chain(level).fold(1.0, f64::max) * 1.05;
    let last = course.points.last().map_or(1.0, |p| f64::from(p.at_s).max(1.0));
    let x = |at_s: f64| LEFT + at_s / last * (WIDTH - LEFT);
    let y = |value: f64| (HEIGHT - BOTTOM) * (1.0 - value / top) + 14.0;
    let mut out = format!(
        "<svg width=\"{WIDTH}\" height=\"{}\"><text x=\"{LEFT}\" y=\"10\">{title}</text>",
        HEIGHT + 14.0
    );
    for share in [0.0, 0.5, 1.0] {
        let (value, at_s) = (top * share, last * share);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#eee\"/><text x=\"0\" \
            y=\"{y:.1}\">{value:.0}</text>\
             <text x=\"{:.1}\" y=\"{HEIGHT}\" text-anchor=\"middle\">{:.0}</text>",
            x(at_s).min(WIDTH - 10.0),
            at_s / 60.0,
            y = y(value),
        );
    }
    if let Some(level) = level {
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#999\" \
            stroke-dasharray=\"4\"/>",
            y(level)
        );
    }
    for (name, color, of) in lines {
        let drawn = course
            .points
            .iter()
            .filter_map(|p| Some(format!("{:.1},{:.1}", x(f64::from(p.at_s)), y(of(p)?))));
        let drawn: Vec<String> = drawn.collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\"><title>{name}</title></polyline>",
            drawn.join(" ")
        );
    }
    out + "</svg>"
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
