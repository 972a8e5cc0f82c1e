//! Rows, and tables of rows.

use serde::{Deserialize, Serialize};

use super::paired::{PAIRS, Pairs, ROUND};
use crate::process::machine;

/// One row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What is measured.
    pub figure: String,
    /// The backend.
    pub backend: String,
    /// The median. A ratio unless the unit says otherwise.
    pub value: f64,
    /// The interval of the median, for paired figures.
    pub interval: Option<(f64, f64)>,
    /// The lowest and the highest value of several repetitions.
    pub spread: Option<(f64, f64)>,
    /// `ratio`, `B`, `s`, `ms`, `us` or `requests`.
    pub unit: String,
    /// The value to reach, if there is one.
    pub goal: Option<f64>,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// Operations a second: ours and the baseline's.
    pub rates: Option<(f64, f64)>,
    /// CPU time of the server for each operation in microseconds: ours and the baseline's.
    pub cpu_us: Option<(f64, f64)>,
    /// What the figure is compared with.
    pub baseline: String,
}

impl Row {
    /// A row of a paired figure.
    pub(crate) fn of_pairs(
        figure: impl Into<String>,
        backend: &str,
        pairs: &Pairs,
        goal: Option<f64>,
        baseline: &str,
    ) -> Self {
        Self {
            interval: Some(pairs.interval()),
            rates: Some(pairs.rates()),
            cpu_us: pairs.cpu_us(),
            baseline: baseline.to_owned(),
            ..Self::higher_is_better(figure, backend, pairs.ratio(), "ratio", goal)
        }
    }

    /// A row of a single measurement where a higher value is better.
    pub(crate) fn higher_is_better(
        figure: impl Into<String>,
        backend: &str,
        value: f64,
        unit: &str,
        goal: Option<f64>,
    ) -> Self {
        Self {
            figure: figure.into(),
            backend: backend.to_owned(),
            value,
            interval: None,
            spread: None,
            unit: unit.to_owned(),
            goal,
            higher_is_better: true,
            rates: None,
            cpu_us: None,
            baseline: String::new(),
        }
    }

    /// A row of a single measurement where a lower value is better.
    pub(crate) fn lower_is_better(
        figure: impl Into<String>,
        backend: &str,
        value: f64,
        unit: &str,
        goal: Option<f64>,
    ) -> Self {
        Self {
            higher_is_better: false,
            ..Self::higher_is_better(figure, backend, value, unit, goal)
        }
    }

    /// Both rows show the same figure.
    fn is_same(&self, other: &Self) -> bool {
        self.figure == other.figure && self.backend == other.backend
    }

    /// Whether the goal is reached; `None` without a goal.
    pub fn reaches_goal(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(if self.higher_is_better {
            self.value >= goal
        } else {
            self.value <= goal
        })
    }
}

/// A measured table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// The machine and the build.
    pub machine: String,
    /// The version of the load test.
    pub version: String,
    /// Pairs of turns for each figure.
    pub pairs: usize,
    /// The length of a turn in seconds.
    pub round_s: f64,
    /// How many tables are combined.
    pub repeats: u32,
    /// Which figures were measured.
    pub figures: Vec<String>,
    /// The rows in the order of measurement.
    pub rows: Vec<Row>,
    /// Figures that could not be measured on this machine, and why.
    pub not_measured: Vec<String>,
}

impl Table {
    /// An empty table for these figures.
    pub(crate) fn new(figures: &[&str]) -> Self {
        Self {
            machine: machine(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pairs: PAIRS,
            round_s: ROUND.as_secs_f64(),
            repeats: 1,
            figures: figures.iter().map(|figure| (*figure).to_owned()).collect(),
            rows: Vec::new(),
            not_measured: Vec::new(),
        }
    }

    /// Adds a row and prints it, as a table takes long.
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("{}, {}: {:.3} {}", row.figure, row.backend, row.value, row.unit);
        self.rows.push(row);
    }

    /// Adds a paired figure, or why it could not be measured: a service that cannot answer the load in time
    /// refuses it.
    pub(crate) fn push_pairs(
        &mut self,
        figure: String,
        backend: &str,
        pairs: anyhow::Result<Pairs>,
        goal: Option<f64>,
        baseline: &str,
    ) {
        match pairs {
            Ok(pairs) => self.push(Row::of_pairs(figure, backend, &pairs, goal, baseline)),
            Err(why) => self.not_measured.push(format!("{figure}, {backend}: {why:#}")),
        }
    }

    /// Adds later measurements of the same repetition.
    pub(crate) fn extend(&mut self, later: Self) {
        self.figures.extend(later.figures);
        self.rows.extend(later.rows);
        self.not_measured.extend(later.not_measured);
    }
}

/// Several repetitions as one table: medians, with their spread.
///
/// # Panics
/// Without a table.
pub fn combine(tables: &[Table]) -> Table {
    let mut all = tables[0].clone();
    all.repeats = u32::try_from(tables.len()).unwrap_or(u32::MAX);
    for later in &tables[1..] {
        for row in &later.rows {
            if !all.rows.iter().any(|known| known.is_same(row)) {
                all.rows.push(row.clone());
            }
        }
        for why in &later.not_measured {
            if !all.not_measured.contains(why) {
                all.not_measured.push(why.clone());
            }
        }
    }
    for row in &mut all.rows {
        let mut same: Vec<&Row> = tables
            .iter()
            .filter_map(|table| table.rows.iter().find(|candidate| candidate.is_same(row)))
            .collect();
        same.sort_by(|a, b| a.value.total_cmp(&b.value));
        let spread = (same.len() > 1).then(|| (same[0].value, same[same.len() - 1].value));
        // The whole median row, so that rates and CPU times belong to the shown value.
        *row = Row {
            spread,
            ..same[same.len() / 2].clone()
        };
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table with one row.
    pub(in crate::baseline_table) fn table(value: f64) -> Table {
        Table {
            machine: "m".into(),
            version: "v".into(),
            pairs: 9,
            round_s: 1.0,
            repeats: 1,
            figures: vec!["join".into()],
            rows: vec![Row::higher_is_better(
                "join",
                "embedded",
                value,
                "ratio",
                Some(0.85),
            )],
            not_measured: vec!["x: why".into()],
        }
    }

    #[test]
    fn combined_rows_have_the_median_and_the_spread() {
        let all = combine(&[table(0.8), table(0.9), table(0.86)]);
        assert_eq!(
            (all.rows[0].value, all.rows[0].spread, all.repeats),
            (0.86, Some((0.8, 0.9)), 3)
        );
    }

    #[test]
    fn rows_of_a_later_repetition_are_kept() {
        let first = table(0.8);
        let status = Row {
            figure: "status".into(),
            ..first.rows[0].clone()
        };
        let mut second = first.clone();
        second.extend(Table {
            rows: vec![status.clone()],
            ..first.clone()
        });
        let all = combine(&[first, second]);
        assert_eq!(
            (all.rows.len(), all.rows[0].spread, all.rows[1].spread),
            (2, Some((0.8, 0.8)), None)
        );
        assert!(all.rows[1].is_same(&status));
    }

    #[test]
    fn a_goal_respects_the_direction() {
        let memory = |value, goal| Row::lower_is_better("memory", "embedded", value, "B", goal);
        assert_eq!(memory(25.0, Some(20.0)).reaches_goal(), Some(false));
        assert_eq!(memory(16.0, Some(20.0)).reaches_goal(), Some(true));
        assert_eq!(memory(16.0, None).reaches_goal(), None);
    }
}
