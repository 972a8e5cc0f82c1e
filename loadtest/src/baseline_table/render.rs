//! A table as text or markdown.

use std::fmt::Write;

use super::table::{Row, Table};

/// A value with its unit.
pub(crate) fn number(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => format!("{value:.2}"),
        "requests" => format!("{value:.4}"),
        "B" if value >= 1_000.0 => format!("{value:.0} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

/// One row.
pub(super) fn line(row: &Row, markdown: bool) -> String {
    let mut measured = number(row.value, &row.unit);
    if let Some((low, high)) = row.spread.or(row.interval) {
        let _ = write!(
            measured,
            " ({} to {})",
            number(low, &row.unit),
            number(high, &row.unit)
        );
    }
    let goal = row.goal.map_or_else(
        || "-".to_owned(),
        |goal| {
            format!(
                "{} {}",
                if row.higher_is_better { ">=" } else { "<=" },
                number(goal, &row.unit)
            )
        },
    );
    let reached = match row.reaches_goal() {
        Some(true) => "reached",
        Some(false) => "missed",
        None => "",
    };
    let details = details(row);
    let Row { figure, backend, .. } = row;
    if markdown {
        format!("| {figure} | {backend} | {measured} | {goal} | {reached} | {details} |\n")
    } else {
        format!("{figure:<46} {backend:<16} {measured:<26} {goal:<12} {reached:<8} {details}\n")
    }
}

fn details(row: &Row) -> String {
    let mut parts = Vec::new();
    if let Some((ours, baseline)) = row.rates {
        parts.push(format!("{ours:.0} over {baseline:.0} a second"));
    }
    if let Some((ours, baseline)) = row.cpu_us {
        parts.push(format!("CPU {ours:.1} over {baseline:.1} us"));
    }
    if !row.baseline.is_empty() {
        parts.push(row.baseline.clone());
    }
    parts.join("; ")
}

/// The whole table.
pub fn render(table: &Table, markdown: bool) -> String {
    let brackets = if table.repeats > 1 {
        "the lowest and the highest of all repetitions"
    } else {
        "the interval of the median"
    };
    let mut out = format!(
        "{}; stagedoor {}; medians of {} interleaved pairs of {} s, {} repetitions; in brackets {brackets}\n",
        table.machine, table.version, table.pairs, table.round_s, table.repeats
    );
    if markdown {
        out += "\n| figure | backend | measured | goal | | details |\n|---|---|---|---|---|---|\n";
    }
    for row in &table.rows {
        out += &line(row, markdown);
    }
    for why in &table.not_measured {
        let _ = writeln!(out, "not measured: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline_table::table::{combine, tests::table};

    #[test]
    fn a_row_shows_median_spread_and_goal() {
        let text = render(&combine(&[table(0.8), table(0.9), table(0.86)]), true);
        assert!(
            text.contains("| join | embedded | 0.86 (0.80 to 0.90) | >= 0.85 | reached |"),
            "{text}"
        );
        assert!(render(&table(0.8), false).contains("missed") && text.contains("not measured: x: why"));
    }
}
