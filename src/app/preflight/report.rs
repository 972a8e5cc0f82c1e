//! What preflight says.

use std::fmt;

use serde::Serialize;

use crate::ops::config::ConfigError;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The sale can begin, but something is not as good as it could be, or it could not be looked at.
    Warning,
    /// The sale cannot begin like this.
    Failed,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: a word or two, the same in every report.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The lines in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The lines.
    pub checks: Vec<Check>,
}

impl Report {
    /// Of a configuration that cannot be used: nothing else can be looked at.
    #[must_use]
    pub fn of_configuration(error: &ConfigError) -> Self {
        let mut report = Self::default();
        for problem in &error.problems {
            let finding = format!("{} ({})", problem.key, problem.source);
            report.failed("configuration", finding, &problem.message);
        }
        report
    }

    /// How many checks ended like this.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    }

    pub(super) fn ok(&mut self, name: &'static str, finding: impl Into<String>) {
        self.add(name, Verdict::Ok, finding.into(), None);
    }

    pub(super) fn warn(&mut self, name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Warning, finding.into(), Some(remedy.into()));
    }

    pub(super) fn failed(
        &mut self,
        name: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(name, Verdict::Failed, finding.into(), Some(remedy.into()));
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, finding: String, remedy: Option<String>) {
        self.checks.push(Check {
            name,
            verdict,
            finding,
            remedy,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
            };
            writeln!(f, "{verdict:8} {:18} {}", check.name, check.finding)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "{:27} -> {remedy}", "")?;
            }
        }
        writeln!(
            f,
            "{} ok, {} warnings, {} failed",
            self.count(Verdict::Ok),
            self.count(Verdict::Warning),
            self.count(Verdict::Failed)
        )
    }
}
