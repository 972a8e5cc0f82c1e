//! A run's result: one JSON file, which can be compared with another and added to that of another part.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{
    audit::Verdict,
    book::{Second, StepFigures},
    watching::WatchFigures,
};

/// Everything that a run says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// `run` or `flash`, and the settings in words.
    pub what: String,
    pub house: String,
    pub machine: String,
    pub version: String,
    pub begun_at: String,
    pub seconds: f64,
    /// Why it ended before its end, if it did.
    pub ended_early: Option<String>,
    /// Which part of a shared run this is, for instance `2/3`.
    pub part: Option<String>,
    pub fans: Fans,
    pub steps: BTreeMap<String, StepFigures>,
    pub errors: BTreeMap<String, u64>,
    pub series: Vec<Second>,
    pub goodput: Goodput,
    pub watchers: Option<WatchFigures>,
    pub server: Option<ServerFigures>,
    pub client: Option<ServerFigures>,
    pub audit: Option<Verdict>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fans {
    pub coming: u32,
    pub joined: u32,
    pub entered: u32,
    pub held: u32,
    pub conflicts: u32,
    pub tickets: u32,
    pub active_max: u32,
    pub endings: BTreeMap<String, u32>,
    pub orders: BTreeMap<String, u32>,
}

/// Useful work over the whole run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Goodput {
    pub answered_per_s: f64,
    /// The best ten seconds.
    pub joins_per_s: f64,
    pub entries_per_s: f64,
    pub tickets_per_s: f64,
}

/// What a process took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ServerFigures {
    pub rss_before_kib: u64,
    /// When all had joined and most of them waited.
    pub rss_joined_kib: u64,
    pub rss_peak_kib: u64,
    pub cpu_s: f64,
    /// Growth until all had joined, over those who had.
    pub bytes_per_fan: f64,
}

impl Goodput {
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    pub fn of(series: &[Second]) -> Self {
        let best = |of: fn(&Second) -> u64| {
            let width = series.len().clamp(1, 10);
            series
                .windows(width)
                .map(|ten| ten.iter().map(of).sum::<u64>() as f64 / width as f64)
                .fold(0.0, f64::max)
        };
        let answered: u64 = series.iter().map(|it| it.answered).sum();
        Self {
            answered_per_s: answered as f64 / series.len().max(1) as f64,
            joins_per_s: best(|it| it.joins),
            entries_per_s: best(|it| it.entries),
            tickets_per_s: best(|it| it.tickets),
        }
    }
}

impl RunResult {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a result of a load test", file.display()))
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// All parts of one run as one: counts and histograms are added up, seconds laid over each other.
    ///
    /// # Errors
    /// Parts that are missing, there twice, or of different runs.
    pub fn merged(parts: &[Self]) -> anyhow::Result<Self> {
        let Some(first) = parts.first() else {
            bail!("no part is named")
        };
        check_parts(parts)?;
        let mut whole = Self {
            part: None,
            ..first.clone()
        };
        for part in &parts[1..] {
            if part.house != first.house || part.what != first.what {
                bail!(
                    "parts of different runs: {}, {}; and {}, {}",
                    first.what,
                    first.house,
                    part.what,
                    part.house
                );
            }
            whole.seconds = whole.seconds.max(part.seconds);
            whole.ended_early = whole.ended_early.or_else(|| part.ended_early.clone());
            whole.fans.add(&part.fans);
            for (name, figures) in &part.steps {
                let sum = whole.steps.entry(name.clone()).or_default();
                sum.answered = sum.answered.merged(&figures.answered);
                sum.refused = sum.refused.merged(&figures.refused);
                sum.failed += figures.failed;
            }
            for (kind, count) in &part.errors {
                *whole.errors.entry(kind.clone()).or_default() += count;
            }
            if whole.series.len() < part.series.len() {
                whole.series.resize(part.series.len(), Second::default());
            }
            whole
                .series
                .iter_mut()
                .zip(&part.series)
                .for_each(|(sum, second)| sum.add(second));
            whole.watchers = whole.watchers.or(part.watchers);
            whole.audit = None;
        }
        whole.goodput = Goodput::of(&whole.series);
        Ok(whole)
    }
}

/// `1/3`, `2/3`, `3/3`: each once.
fn check_parts(parts: &[RunResult]) -> anyhow::Result<()> {
    let of = |it: &RunResult| it.part.as_deref().and_then(parse_part);
    let Some((_, count)) = parts.first().and_then(of) else {
        bail!("a result without --part is whole already")
    };
    let mut seen: Vec<u32> = Vec::new();
    for part in parts {
        match of(part) {
            Some((n, all)) if all == count && !seen.contains(&n) => seen.push(n),
            other => bail!("parts do not belong together: {other:?} of {count}"),
        }
    }
    if seen.len() != count as usize {
        bail!("{} of {count} parts are there", seen.len());
    }
    Ok(())
}

/// `2/3`: the second of three, both from 1.
pub fn parse_part(text: &str) -> Option<(u32, u32)> {
    let (n, all) = text.split_once('/')?;
    let (n, all) = (n.parse().ok()?, all.parse().ok()?);
    (n >= 1 && n <= all).then_some((n, all))
}

impl Fans {
    fn add(&mut self, other: &Self) {
        self.coming += other.coming;
        self.joined += other.joined;
        self.entered += other.entered;
        self.held += other.held;
        self.conflicts += other.conflicts;
        self.tickets += other.tickets;
        self.active_max = self.active_max.max(other.active_max);
        for (how, count) in &other.endings {
            *self.endings.entry(how.clone()).or_default() += count;
        }
        for (state, count) in &other.orders {
            *self.orders.entry(state.clone()).or_default() += count;
        }
    }
}

/// A rate's name and where it stands.
type Rate = (&'static str, fn(&Goodput) -> f64);

/// A table of two results beside each other; and whether any step's p99 or the goodput got worse by more than `percent`.
pub fn compare(a: &RunResult, b: &RunResult, percent: f64) -> (String, Vec<String>) {
    use std::fmt::Write;
    let (mut table, mut worse) = (String::new(), Vec::new());
    let _ = writeln!(
        table,
        "A: {} on {} ({})\nB: {} on {} ({})",
        a.what, a.house, a.begun_at, b.what, b.house, b.begun_at
    );
    if a.machine != b.machine {
        let _ = writeln!(table, "different machines: {} / {}", a.machine, b.machine);
    }
    let _ = writeln!(
        table,
        "{:<16}{:>11}{:>11}{:>8}   {:>11}{:>11}{:>8}",
        "latency, ms", "p50 A", "p50 B", "B/A", "p99 A", "p99 B", "B/A"
    );
    for (name, in_a) in &a.steps {
        let Some(in_b) = b.steps.get(name) else { continue };
        let (a, b) = (&in_a.answered, &in_b.answered);
        if a.count == 0 || b.count == 0 {
            continue;
        }
        let ratio = |b: f64, a: f64| if a > 0.0 { b / a } else { 1.0 };
        let (r50, r99) = (ratio(b.p50_ms, a.p50_ms), ratio(b.p99_ms, a.p99_ms));
        let _ = writeln!(
            table,
            "{name:<16}{:>11.2}{:>11.2}{r50:>8.2}   {:>11.2}{:>11.2}{r99:>8.2}",
            a.p50_ms, b.p50_ms, a.p99_ms, b.p99_ms
        );
        if r99 > 1.0 + percent / 100.0 {
            worse.push(format!("{name}: p99 {:.2} ms, was {:.2} ms", b.p99_ms, a.p99_ms));
        }
    }
    let _ = writeln!(table, "{:<16}{:>11}{:>11}{:>8}", "a second", "A", "B", "B/A");
    let rates: [Rate; 4] = [
        ("answers", |it| it.answered_per_s),
        ("joins", |it| it.joins_per_s),
        ("entries", |it| it.entries_per_s),
        ("tickets", |it| it.tickets_per_s),
    ];
    for (name, of) in rates {
        let (in_a, in_b) = (of(&a.goodput), of(&b.goodput));
        if in_a <= 0.0 {
            continue;
        }
        let _ = writeln!(table, "{name:<16}{in_a:>11.1}{in_b:>11.1}{:>8.2}", in_b / in_a);
        if in_b < in_a * (1.0 - percent / 100.0) {
            worse.push(format!("{name}: {in_b:.1} a second, were {in_a:.1}"));
        }
    }
    let errors = |it: &RunResult| it.errors.values().sum::<u64>();
    let _ = writeln!(table, "{:<16}{:>11}{:>11}", "errors", errors(a), errors(b));
    (table, worse)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        book::{Book, Step},
        wire::Reply,
    };

    fn result(part: &str, ms: u64) -> RunResult {
        let book = Book::default();
        let ok = Ok(Reply {
            status: 201,
            retry_after: None,
            etag: None,
            body: Vec::new(),
            bytes: 0,
        });
        for n in 0..100 {
            book.note(
                Step::Join,
                Duration::from_secs(n / 10),
                Duration::from_secs(n / 10) + Duration::from_millis(ms),
                &ok,
            );
        }
        let series = book.seconds();
        let goodput = Goodput::of(&series);
        RunResult {
            part: Some(part.to_owned()),
            steps: book.steps(),
            series,
            goodput,
            fans: Fans {
                joined: 100,
                ..Fans::default()
            },
            ..RunResult::default()
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let whole = RunResult::merged(&[result("1/2", 1), result("2/2", 3)]).unwrap();
        assert_eq!(
            (
                whole.fans.joined,
                whole.steps["join"].answered.count,
                whole.series[0].due
            ),
            (200, 200, 20)
        );
        assert!(whole.steps["join"].answered.p90_ms > 2.9 && whole.steps["join"].answered.p50_ms < 1.1);
        assert!(
            (whole.goodput.answered_per_s - 20.0).abs() < 0.1,
            "{:?}",
            whole.goodput
        );
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        for parts in [
            vec![result("1/2", 1)],
            vec![result("1/2", 1), result("1/2", 1)],
            vec![result("1/2", 1), result("2/3", 1)],
            vec![],
        ] {
            assert!(RunResult::merged(&parts).is_err());
        }
        let other = RunResult {
            house: "elsewhere".into(),
            ..result("2/2", 1)
        };
        assert!(RunResult::merged(&[result("1/2", 1), other]).is_err());
        assert_eq!(
            (
                parse_part("0/2"),
                parse_part("3/2"),
                parse_part("x"),
                parse_part("2/2")
            ),
            (None, None, None, Some((2, 2)))
        );
    }

    #[test]
    fn what_got_worse_is_named() {
        let (fast, slow) = (result("1/1", 2), result("1/1", 4));
        assert!(
            compare(&fast, &slow, 10.0)
                .1
                .iter()
                .any(|it| it.starts_with("join: p99 "))
        );
        assert!(compare(&slow, &fast, 10.0).1.is_empty());
    }
}
