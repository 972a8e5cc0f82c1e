//! The comparison as a markdown table.

use std::fmt::Write;

use crate::baseline_table::table::{Row, Table};

/// The unit of a row's two values, by the beginning of its name.
fn unit(figure: &str) -> &'static str {
    match figure {
        figure if figure.starts_with("memory") => "B",
        "overload" => "of the peak",
        _ => "/s",
    }
}

fn value(value: f64, unit: &str) -> String {
    match unit {
        "of the peak" => format!("{:.0} % of the peak", value * 100.0),
        "B" => format!("{value:.1} B"),
        unit => format!("{value:.0} {unit}"),
    }
}

fn line(row: &Row) -> String {
    let (ours, usual) = row.rates.unwrap_or_default();
    let unit = unit(&row.figure);
    let interval = row.spread.or(row.interval);
    let interval = interval.map_or_else(String::new, |(low, high)| format!(" ({low:.2} to {high:.2})"));
    let note = if row.higher_is_better {
        ""
    } else {
        ", lower is better"
    };
    format!(
        "| {} | {} | {} | {:.2}{interval}{note} | {} |\n",
        row.figure,
        value(ours, unit),
        value(usual, unit),
        row.value,
        row.baseline
    )
}

/// The table, with how it was measured above it.
pub(super) fn markdown(table: &Table, service: &str) -> String {
    let brackets = if table.repeats > 1 {
        "the lowest and the highest of all repetitions"
    } else {
        "the interval of the median"
    };
    let mut out = format!(
        "{}; stagedoor {}, {service}; {} repetitions; medians of {} interleaved pairs of {} s; in brackets \
         {brackets}\n\n| | stagedoor | usual way | ratio | the usual way is |\n|---|---|---|---|---|\n",
        table.machine, table.version, table.repeats, table.pairs, table.round_s
    );
    for row in &table.rows {
        out += &line(row);
    }
    for why in &table.not_measured {
        let _ = writeln!(out, "\nnot measured: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_both_sides_and_their_ratio() {
        let row = |figure: &str, rates| Row {
            rates: Some(rates),
            interval: Some((1.9, 2.1)),
            baseline: "`ZADD`".into(),
            ..Row::higher_is_better(figure, "embedded", 2.0, "ratio", None)
        };
        let mut table = Table::new(&["join"]);
        table.rows = vec![
            row("join", (20_000.0, 10_000.0)),
            Row {
                higher_is_better: false,
                ..row("memory of a waiting visitor", (30.0, 120.0))
            },
            row("overload", (0.9, 0.45)),
        ];
        let text = markdown(&table, "embedded backend");
        assert!(
            text.contains("| join | 20000 /s | 10000 /s | 2.00 (1.90 to 2.10) | `ZADD` |"),
            "{text}"
        );
        assert!(
            text.contains("| 30.0 B | 120.0 B | 2.00 (1.90 to 2.10), lower is better |"),
            "{text}"
        );
        assert!(text.contains("| 90 % of the peak | 45 % of the peak |"), "{text}");
    }
}
