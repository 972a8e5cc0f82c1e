//! The page that a run leaves: one file of HTML with its plots drawn in it, which needs nothing else.

use std::fmt::Write;

use crate::{
    book::{Latency, Second},
    result::RunResult,
};

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 24.0;
const COLOURS: [&str; 8] = ["#06c", "#c00", "#080", "#a60", "#808", "#088", "#555", "#d4a"];

/// A named line of points, x growing.
pub struct Line<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// One drawing with its legend. `ticks`: what stands below, as (x, label).
pub fn plot(title: &str, lines: &[Line<'_>], ticks: &[(f64, String)]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let top = all().map(|p| p.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let (from, to) = all()
        .map(|p| p.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
            (a.min(x), b.max(x))
        });
    let (from, to) = if to > from { (from, to) } else { (0.0, 1.0) };
    let x = |at: f64| LEFT + (at - from) / (to - from) * (WIDTH - LEFT - 8.0);
    let y = |value: f64| (HEIGHT - BOTTOM) - value / top * (HEIGHT - BOTTOM - 18.0);
    let mut out = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">",
        escape(title)
    );
    for part in 0..=4 {
        let value = top / 4.0 * f64::from(part);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#e4e4e4\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
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
        let colour = COLOURS[n % COLOURS.len()];
        let points: String = line.points.iter().fold(String::new(), |mut all, &(at, value)| {
            let _ = write!(all, "{:.1},{:.1} ", x(at), y(value));
            all
        });
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
        );
    }
    out += "</svg><p class=\"legend\">";
    for (n, line) in lines.iter().enumerate() {
        let _ = write!(
            out,
            "<b style=\"color:{}\">■</b> {} ",
            COLOURS[n % COLOURS.len()],
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

/// The head of every page of ours, up to its body.
pub fn page_head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>body{{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1320px;padding:0 1em}}\
         figure{{display:inline-block;margin:0 1em 1em 0}}figcaption{{font-weight:600}}text{{font:11px system-ui,sans-serif;fill:#555}}.legend{{margin:0;font-size:12px}}\
         table{{border-collapse:collapse;margin:.5em 0 1.5em}}td,th{{padding:.15em .8em;text-align:right;border-bottom:1px solid #e4e4e4}}td:first-child,th:first-child{{text-align:left}}\
         .bad{{color:#b00}}.good{{color:#070}}</style><h1>{0}</h1>",
        escape(title)
    )
}

#[expect(clippy::cast_precision_loss, reason = "seconds and counts of a run")]
pub fn page(result: &RunResult) -> String {
    let mut out = page_head("Load test");
    let _ = write!(
        out,
        "<p>{}<br>{}<br>{}<br>stagedoor {}, begun at {}, {:.0} s</p>",
        escape(&result.what),
        escape(&result.house),
        escape(&result.machine),
        result.version,
        result.begun_at,
        result.seconds
    );
    if let Some(why) = &result.ended_early {
        let _ = write!(out, "<p class=\"bad\"><b>Ended early:</b> {}</p>", escape(why));
    }
    verdict(&mut out, result);
    let fans = &result.fans;
    let _ = write!(
        out,
        "<p>{} fans came: {} joined, {} entered, {} holds ({} times somebody else was faster), {} tickets; at most {} inside.<br>{}</p>",
        fans.coming,
        fans.joined,
        fans.entered,
        fans.held,
        fans.conflicts,
        fans.tickets,
        fans.active_max,
        fans.endings
            .iter()
            .map(|(how, count)| format!("{}: {count}", escape(how)))
            .collect::<Vec<_>>()
            .join(" · ")
    );
    let good = &result.goodput;
    let _ = write!(
        out,
        "<p>Best ten seconds: {:.0} joins, {:.0} entries, {:.0} tickets a second; {:.0} answers a second over the whole run.</p>",
        good.joins_per_s, good.entries_per_s, good.tickets_per_s, good.answered_per_s
    );
    let series = |of: fn(&Second) -> u64| {
        result
            .series
            .iter()
            .enumerate()
            .map(|(s, it)| (s as f64, of(it) as f64))
            .collect::<Vec<_>>()
    };
    let step = (result.series.len() / 6).max(1);
    let seconds: Vec<(f64, String)> = (0..result.series.len())
        .step_by(step)
        .map(|s| (s as f64, format!("{s} s")))
        .collect();
    let line = |name, of| Line {
        name,
        points: series(of),
    };
    out += &plot(
        "calls a second",
        &[
            line("due", |it| it.due),
            line("failed", |it| it.failed),
            line("answered", |it| it.answered),
            line("refused", |it| it.refused),
        ],
        &seconds,
    );
    out += &plot(
        "a second",
        &[
            line("joins", |it| it.joins),
            line("entries", |it| it.entries),
            line("tickets", |it| it.tickets),
        ],
        &seconds,
    );
    out += &plot("waiting", &[line("waiting", |it| it.waiting)], &seconds);
    out += &plot("inside", &[line("inside", |it| it.active)], &seconds);
    if result.server.is_some() {
        out += &plot(
            "the server's memory, MiB",
            &[line("resident", |it| it.rss_kib >> 10)],
            &seconds,
        );
        out += &plot(
            "the server's CPU, ms a second",
            &[line("CPU", |it| it.cpu_ms)],
            &seconds,
        );
    }
    out += &latencies(result);
    table(&mut out, result);
    out + "</html>\n"
}

fn verdict(out: &mut String, result: &RunResult) {
    let Some(audit) = &result.audit else { return };
    let _ = match &audit.not_audited {
        Some(why) => write!(out, "<p class=\"bad\">Not audited: {}</p>", escape(why)),
        None if audit.violations_count == 0 => {
            write!(
                out,
                "<p class=\"good\"><b>The auditor found nothing</b> in {}.</p>",
                audit.looked_at()
            )
        }
        None => write!(
            out,
            "<p class=\"bad\"><b>{} violations</b></p><ul>{}</ul>",
            audit.violations_count,
            audit
                .violations
                .iter()
                .map(|it| format!("<li>{}</li>", escape(it)))
                .collect::<Vec<_>>()
                .concat()
        ),
    };
}

/// Latency over the share of calls that were faster, by nines.
fn latencies(result: &RunResult) -> String {
    let nines: Vec<f64> = (0..=40).map(|n| f64::from(n) / 10.0).collect();
    let lines: Vec<Line<'_>> = result
        .steps
        .iter()
        .filter(|(_, it)| it.answered.count > 0)
        .map(|(name, it)| Line {
            name,
            points: nines
                .iter()
                .map(|&n| (n, (1.0 + at(&it.answered, 1.0 - 10_f64.powf(-n))).log10()))
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
        "latency by the share of calls that were faster: log10 of 1 + ms (1 is 9 ms, 2 is 99 ms, 3 is 1 s)",
        &lines,
        &ticks,
    )
}

/// The value in milliseconds below which this share lies.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run")]
fn at(latency: &Latency, share: f64) -> f64 {
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

fn table(out: &mut String, result: &RunResult) {
    *out += "<h2>Latencies</h2><p>Milliseconds from when a call was due. Refusals are answers 429 and 503.</p><table><tr><th>step<th>answers<th>p50<th>p90<th>p99<th>p99.9<th>longest<th>refused<th>their p50<th>failed</tr>";
    for (name, it) in &result.steps {
        let a = &it.answered;
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{:.2}<td>{:.2}<td>{:.2}<td>{:.2}<td>{:.2}<td>{}<td>{:.2}<td>{}</tr>",
            escape(name),
            a.count,
            a.p50_ms,
            a.p90_ms,
            a.p99_ms,
            a.p999_ms,
            a.max_ms,
            it.refused.count,
            it.refused.p50_ms,
            it.failed
        );
    }
    *out += "</table><h2>What went wrong, by kind</h2><table><tr><th>kind<th>how often</tr>";
    for (kind, count) in &result.errors {
        let _ = write!(out, "<tr><td>{}<td>{count}</tr>", escape(kind));
    }
    *out += if result.errors.is_empty() {
        "<tr><td>nothing<td></tr></table>"
    } else {
        "</table>"
    };
    if let Some(it) = &result.server {
        let _ = write!(
            out,
            "<h2>The server's process</h2><table><tr><th>memory before<th>when all had joined<th>a fan<th>peak<th>CPU</tr>\
             <tr><td>{} MiB<td>{} MiB<td>{:.0} B<td>{} MiB<td>{:.1} s</tr></table>",
            it.rss_before_kib >> 10,
            it.rss_joined_kib >> 10,
            it.bytes_per_fan,
            it.rss_peak_kib >> 10,
            it.cpu_s
        );
    }
    if let Some(it) = &result.watchers {
        let _ = write!(
            out,
            "<h2>Watchers of the board's stream</h2><p>{} watchers, {} boards; {} of {} received; {} watchers missed one or more; {} streams broke, {} were refused.</p>",
            it.watchers, it.boards, it.received, it.due, it.missed_some, it.broken, it.refused
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Verdict, result::Fans};

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_was_told() {
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
            fans: Fans {
                endings: [("sold out".to_owned(), 4)].into(),
                ..Fans::default()
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
