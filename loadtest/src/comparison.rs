//! Compares two results of a run.

use std::fmt::Write;

use crate::result::{Goodput, RunResult};

/// A rate's name and how to read it.
type Rate = (&'static str, fn(&Goodput) -> f64);

/// Two results side by side.
pub struct Comparison {
    /// The table for people.
    pub table: String,
    /// Each p99 and each rate of B that is worse than that of A by more than the allowed percentage.
    pub regressions: Vec<String>,
}

/// Compares two results; `percent` is the allowed regression.
pub fn compare(a: &RunResult, b: &RunResult, percent: f64) -> Comparison {
    let mut table = String::new();
    let _ = writeln!(
        table,
        "A: {} on {} ({})\nB: {} on {} ({})",
        a.what, a.service, a.began_at, b.what, b.service, b.began_at
    );
    if a.machine != b.machine {
        let _ = writeln!(table, "different machines: {} / {}", a.machine, b.machine);
    }
    let mut comparison = Comparison {
        table,
        regressions: Vec::new(),
    };
    comparison.add_latencies(a, b, percent);
    comparison.add_rates(a, b, percent);
    let errors = |result: &RunResult| result.errors.values().sum::<u64>();
    let _ = writeln!(
        comparison.table,
        "{:<16}{:>11}{:>11}",
        "errors",
        errors(a),
        errors(b)
    );
    comparison
}

impl Comparison {
    fn add_latencies(&mut self, a: &RunResult, b: &RunResult, percent: f64) {
        let _ = writeln!(
            self.table,
            "{:<16}{:>11}{:>11}{:>8}   {:>11}{:>11}{:>8}",
            "latency, ms", "p50 A", "p50 B", "B/A", "p99 A", "p99 B", "B/A"
        );
        for (name, in_a) in &a.calls {
            let Some(in_b) = b.calls.get(name) else { continue };
            let (a, b) = (&in_a.answered, &in_b.answered);
            if a.count == 0 || b.count == 0 {
                continue;
            }
            let ratio = |b: f64, a: f64| if a > 0.0 { b / a } else { 1.0 };
            let (r50, r99) = (ratio(b.p50_ms, a.p50_ms), ratio(b.p99_ms, a.p99_ms));
            let _ = writeln!(
                self.table,
                "{name:<16}{:>11.2}{:>11.2}{r50:>8.2}   {:>11.2}{:>11.2}{r99:>8.2}",
                a.p50_ms, b.p50_ms, a.p99_ms, b.p99_ms
            );
            if r99 > 1.0 + percent / 100.0 {
                self.regressions
                    .push(format!("{name}: p99 {:.2} ms, was {:.2} ms", b.p99_ms, a.p99_ms));
            }
        }
    }

    fn add_rates(&mut self, a: &RunResult, b: &RunResult, percent: f64) {
        let _ = writeln!(
            self.table,
            "{:<16}{:>11}{:>11}{:>8}",
            "per second", "A", "B", "B/A"
        );
        let rates: [Rate; 4] = [
            ("answers", |goodput| goodput.answered_per_s),
            ("joins", |goodput| goodput.joins_per_s),
            ("admissions", |goodput| goodput.entries_per_s),
            ("tickets", |goodput| goodput.tickets_per_s),
        ];
        for (name, of) in rates {
            let (in_a, in_b) = (of(&a.goodput), of(&b.goodput));
            if in_a <= 0.0 {
                continue;
            }
            let _ = writeln!(
                self.table,
                "{name:<16}{in_a:>11.1}{in_b:>11.1}{:>8.2}",
                in_b / in_a
            );
            if in_b < in_a * (1.0 - percent / 100.0) {
                self.regressions
                    .push(format!("{name}: {in_b:.1} a second, was {in_a:.1}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;

    #[test]
    fn regressions_are_named() {
        let (fast, slow) = (result("1/1", 2), result("1/1", 4));
        assert!(
            compare(&fast, &slow, 10.0)
                .regressions
                .iter()
                .any(|regression| regression.starts_with("join: p99 "))
        );
        assert!(compare(&slow, &fast, 10.0).regressions.is_empty());
    }
}
