//! The HTML report of a run: one file with its plots as inline SVG, which loads nothing else.

use std::fmt::Write;

use crate::{
    audit::Verdict,
    recorder::{Latency, Second},
    result::RunResult,
};

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 24.0;
const COLORS: [&str; 8] = ["#06c", "#c00", "#080", "#a60", "#808", "#088", "#555", "#d4a"];

/// A line of a plot.
pub struct Line<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// `(x, y)`, x ascending.
    pub points: Vec<(f64, f64)>,
}

/// Escapes text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A plot with its legend. `ticks` are the labels of the x axis as `(x, label)`.
pub fn plot(title: &str, lines: &[Line<'_>], ticks: &[(f64, String)]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let (from, to) = points()
        .map(|point| point.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
            (a.min(x), b.max(x))
        });
    let (from, to) = if to > from { (from, to) } else { (0.0, 1.0) };
    let x = |at: f64| LEFT + (at - from) / (to - from) * (WIDTH - LEFT - 8.0);
    let y = |value: f64| (HEIGHT - BOTTOM) - value / top * (HEIGHT - BOTTOM - 18.0);
    let mut out = format!(
        "<figure><figcaption>{}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">",
        escape(title)
    );
    for part in 0..=4 {
        let value = top / 4.0 * f64::from(part);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            number(value)
        );
    }
    for (at, label) in ticks {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(*at),
            HEIGHT - 6.0,
            escape(label)
        );
    }
    for (n, line) in lines.iter().enumerate() {
        let color = COLORS[n % COLORS.len()];
        let points: String = line.points.iter().fold(String::new(), |mut all, &(at, value)| {
            let _ = write!(all, "{:.1},{:.1} ", x(at), y(value));
            all
        });
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"/>"
        );
    }
    out += "</svg><p class=\"legend\">";
    for (n, line) in lines.iter().enumerate() {
        let _ = write!(
            out,
            "<b style=\"color:{}\">■</b> {} ",
            COLORS[n % COLORS.len()],
            escape(line.name)
        );
    }
    out + "</p></figure>"
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

/// The head of a report, up to its content.
pub fn page_head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>\
         body{{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1320px;padding:0 1em}}\
         figure{{display:inline-block;margin:0 1em 1em 0}}figcaption{{font-weight:600}}text{{font:11px \
         system-ui,sans-serif;fill:#555}}.legend{{margin:0;font-size:12px}}\
         table{{border-collapse:collapse;margin:.5em 0 1.5em}}td,th{{padding:.15em \
         .8em;text-align:right;border-bottom:1px solid \
         #e4e4e4}}td:first-child,th:first-child{{text-align:left}}\
         .bad{{color:#b00}}.good{{color:#070}}</style><h1>{0}</h1>",
        escape(title)
    )
}

/// The report of a run.
pub fn page(result: &RunResult) -> String {
    let mut out = page_head("Load test");
    let _ = write!(
        out,
        "<p>{}<br>{}<br>{}<br>stagedoor {}, began at {}, {:.0} s</p>",
        escape(&result.what),
        escape(&result.service),
        escape(&result.machine),
        result.version,
        result.began_at,
        result.seconds
    );
    if let Some(why) = &result.ended_early {
        let _ = write!(out, "<p class=\"bad\"><b>Ended early:</b> {}</p>", escape(why));
    }
    if let Some(verdict) = &result.audit {
        write_verdict(&mut out, verdict);
    }
    write_outcomes(&mut out, result);
    if let Some(forecasts) = &result.forecasts {
        let _ = write!(out, "<p>{}</p>", escape(&forecasts.in_words()));
    }
    write_series(&mut out, result);
    out += &latencies(result);
    write_tables(&mut out, result);
    out + "</html>\n"
}

fn write_outcomes(out: &mut String, result: &RunResult) {
    let fans = &result.fans;
    let endings: Vec<String> = fans
        .endings
        .iter()
        .map(|(how, count)| format!("{}: {count}", escape(how)))
        .collect();
    let _ = write!(
        out,
        "<p>{} fans: {} joined, {} admitted, {} holds, {} conflicts, {} tickets; at most {} active \
         visits.<br>{}</p>",
        fans.coming,
        fans.joined,
        fans.entered,
        fans.held,
        fans.conflicts,
        fans.tickets,
        fans.active_max,
        endings.join(" · ")
    );
    let goodput = &result.goodput;
    let _ = write!(
        out,
        "<p>Best ten seconds: {:.0} joins, {:.0} admissions, {:.0} tickets a second; {:.0} answers a second \
         over the \
         whole run.</p>",
        goodput.joins_per_s, goodput.entries_per_s, goodput.tickets_per_s, goodput.answered_per_s
    );
}

/// The plots over time.
#[expect(clippy::cast_precision_loss, reason = "seconds and counts of a run")]
fn write_series(out: &mut String, result: &RunResult) {
    let line = |name, of: fn(&Second) -> u64| Line {
        name,
        points: result
            .series
            .iter()
            .enumerate()
            .map(|(s, second)| (s as f64, of(second) as f64))
            .collect(),
    };
    let step = (result.series.len() / 6).max(1);
    let ticks: Vec<(f64, String)> = (0..result.series.len())
        .step_by(step)
        .map(|s| (s as f64, format!("{s} s")))
        .collect();
    *out += &plot(
        "calls a second",
        &[
            line("due", |second| second.due),
            line("failed", |second| second.failed),
            line("answered", |second| second.answered),
            line("refused", |second| second.refused),
        ],
        &ticks,
    );
    *out += &plot(
        "outcomes a second",
        &[
            line("joins", |second| second.joins),
            line("admissions", |second| second.entries),
            line("tickets", |second| second.tickets),
        ],
        &ticks,
    );
    *out += &plot(
        "waiting visitors",
        &[line("waiting", |second| second.waiting)],
        &ticks,
    );
    *out += &plot("active visits", &[line("active", |second| second.active)], &ticks);
    if result.server.is_some() {
        let memory = line("resident", |second| second.rss_kib >> 10);
        *out += &plot("the server's memory, MiB", &[memory], &ticks);
        *out += &plot(
            "the server's CPU, ms a second",
            &[line("CPU", |second| second.cpu_ms)],
            &ticks,
        );
    }
}

fn write_verdict(out: &mut String, verdict: &Verdict) {
    let _ = match &verdict.not_audited {
        Some(why) => write!(out, "<p class=\"bad\">Not audited: {}</p>", escape(why)),
        None if verdict.violations_count == 0 => {
            write!(
                out,
                "<p class=\"good\"><b>No violations</b> in {}.</p>",
                verdict.scope()
            )
        }
        None => {
            let items: Vec<String> = verdict
                .violations
                .iter()
                .map(|violation| format!("<li>{}</li>", escape(violation)))
                .collect();
            let items = items.concat();
            let count = verdict.violations_count;
            write!(
                out,
                "<p class=\"bad\"><b>{count} violations</b></p><ul>{items}</ul>"
            )
        }
    };
}

/// Latency by quantile, in nines.
fn latencies(result: &RunResult) -> String {
    let nines: Vec<f64> = (0..=40).map(|n| f64::from(n) / 10.0).collect();
    let lines: Vec<Line<'_>> = result
        .calls
        .iter()
        .filter(|(_, stats)| stats.answered.count > 0)
        .map(|(name, stats)| Line {
            name,
            points: nines
                .iter()
                .map(|&n| {
                    (
                        n,
                        (1.0 + latency_at(&stats.answered, 1.0 - 10_f64.powf(-n))).log10(),
                    )
                })
                .collect(),
        })
        .collect();
    let ticks = [
        (0.0, "0"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
    ]
    .map(|(at, label)| (at, label.to_owned()));
    plot(
        "latency by quantile: log10 of 1 + ms (1 is 9 ms, 2 is 99 ms, 3 is 1 s)",
        &lines,
        &ticks,
    )
}

/// The quantile of this share, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run")]
fn latency_at(latency: &Latency, share: f64) -> f64 {
    let wanted = share * latency.count as f64;
    let mut sum = 0.0;
    for &(us, count) in &latency.buckets {
        sum += count as f64;
        if sum >= wanted {
            return us as f64 / 1_000.0;
        }
    }
    latency.max_ms
}

fn write_tables(out: &mut String, result: &RunResult) {
    *out += "<h2>Latencies</h2><p>Milliseconds from when a call was due. Refusals are answers 429 and \
    503.</p>\
             <table><tr><th>call<th>answers<th>p50<th>p90<th>p99<th>p99.9<th>max<th>refused<th>their \
             p50<th>failed</tr>";
    for (name, stats) in &result.calls {
        let answered = &stats.answered;
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{:.2}<td>{:.2}<td>{:.2}<td>{:.2}<td>{:.2}<td>{}<td>{:.2}<td>{}</tr>",
            escape(name),
            answered.count,
            answered.p50_ms,
            answered.p90_ms,
            answered.p99_ms,
            answered.p999_ms,
            answered.max_ms,
            stats.refused.count,
            stats.refused.p50_ms,
            stats.failed
        );
    }
    *out += "</table><h2>Errors by kind</h2><table><tr><th>kind<th>count</tr>";
    for (kind, count) in &result.errors {
        let _ = write!(out, "<tr><td>{}<td>{count}</tr>", escape(kind));
    }
    *out += if result.errors.is_empty() {
        "<tr><td>none<td></tr></table>"
    } else {
        "</table>"
    };
    if let Some(server) = &result.server {
        let _ = write!(
            out,
            "<h2>The server's process</h2><table>\
             <tr><th>memory before<th>when all had joined<th>a fan<th>peak<th>CPU</tr>\
             <tr><td>{} MiB<td>{} MiB<td>{}<td>{} MiB<td>{:.1} s</tr></table>",
            server.rss_before_kib >> 10,
            server.rss_joined_kib >> 10,
            server.memory_of_a_fan(),
            server.rss_peak_kib >> 10,
            server.cpu_s
        );
    }
    if let Some(streams) = &result.streams {
        let _ = write!(
            out,
            "<h2>Status streams</h2><p>{} clients, {} status versions; {} of {} events received; {} clients \
             missed at \
             least one; {} streams broke, {} were refused.</p>",
            streams.clients,
            streams.versions,
            streams.received,
            streams.due,
            streams.incomplete,
            streams.broken,
            streams.refused
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::FanFigures;

    #[test]
    fn the_report_is_self_contained_and_escapes_text() {
        let result = RunResult {
            what: "run <script>".into(),
            errors: [("join: \"<b>\"".to_owned(), 3)].into(),
            series: vec![
                Second {
                    due: 5,
                    answered: 4,
                    ..Second::default()
                };
                30
            ],
            fans: FanFigures {
                endings: [("sold out".to_owned(), 4)].into(),
                ..FanFigures::default()
            },
            audit: Some(Verdict {
                violations_count: 1,
                violations: vec!["I1: seat <A>".into()],
                ..Verdict::default()
            }),
            ..RunResult::default()
        };
        let page = page(&result);
        assert!(
            page.contains("run &lt;script&gt;")
                && page.contains("I1: seat &lt;A&gt;")
                && !page.contains("<script")
        );
        assert!(
            page.matches("<svg").count() >= 4 && !page.contains("http"),
            "it loads nothing"
        );
        assert!(page.contains("1 violations"));
    }
}
