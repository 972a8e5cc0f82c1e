//! Several measurements of the table: which figures are missing, and which were measured before.

use std::{fs, io, path::Path};

use anyhow::{Context, bail};

use super::{args::FIGURES, table::Table};
use crate::process::machine;

/// The file with every repetition.
pub(super) const REPETITIONS_FILE: &str = "repetitions.json";

/// The figures of this repetition that are not measured yet. The forecast is deterministic, so it belongs to
/// the first repetition only.
pub(super) fn missing_figures(
    only: &[String],
    repetition: usize,
    before: Option<&Table>,
) -> Vec<&'static str> {
    let is_wanted = |figure: &str| only.is_empty() || only.iter().any(|name| name == figure);
    let is_measured =
        |figure: &str| before.is_some_and(|table| table.figures.iter().any(|name| name == figure));
    FIGURES
        .into_iter()
        .filter(|figure| is_wanted(figure) && !is_measured(figure))
        .filter(|figure| repetition == 0 || *figure != "forecast")
        .collect()
}

/// The repetitions measured before, for `--resume`.
///
/// # Errors
/// The file cannot be read, or it is of another machine or version.
pub(super) fn read_repetitions(out: &Path) -> anyhow::Result<Vec<Table>> {
    let file = out.join(REPETITIONS_FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("--resume: cannot read {}", file.display())),
    };
    let tables: Vec<Table> =
        serde_json::from_slice(&text).with_context(|| format!("--resume: {}", file.display()))?;
    let is_other = |table: &&Table| table.machine != machine() || table.version != env!("CARGO_PKG_VERSION");
    match tables.iter().find(is_other) {
        Some(other) => bail!(
            "--resume: {} has figures of {}, stagedoor {}",
            file.display(),
            other.machine,
            other.version
        ),
        None => Ok(tables),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline_table::table::tests::table;

    #[test]
    fn a_measurement_resumes_on_the_same_machine_only() {
        let dir = testkit::process::temp_folder("baselines").unwrap();
        assert!(read_repetitions(dir.path()).unwrap().is_empty());
        let here = Table {
            machine: machine(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..table(0.8)
        };
        let file = dir.path().join(REPETITIONS_FILE);
        let write = |tables: &[Table]| fs::write(&file, serde_json::to_vec(tables).unwrap()).unwrap();
        write(&[here.clone(), here.clone()]);
        assert_eq!(read_repetitions(dir.path()).unwrap().len(), 2);
        write(&[here, table(0.8)]);
        let error = read_repetitions(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("repetitions.json has figures of m, stagedoor v"),
            "{error}"
        );
        fs::write(&file, "[").unwrap();
        assert!(read_repetitions(dir.path()).is_err());
    }

    #[test]
    fn only_missing_figures_are_measured() {
        let before = table(0.8);
        let only = ["forecast", "join", "status"].map(str::to_owned);
        assert_eq!(missing_figures(&only, 0, None), ["join", "status", "forecast"]);
        assert_eq!(missing_figures(&only, 0, Some(&before)), ["status", "forecast"]);
        assert_eq!(missing_figures(&only, 1, Some(&before)), ["status"]);
        assert_eq!(missing_figures(&[], 1, None).len(), FIGURES.len() - 1);
        let both = Table {
            figures: vec!["join".into(), "status".into()],
            ..before
        };
        assert_eq!(missing_figures(&only, 1, Some(&both)), [""; 0]);
    }
}
