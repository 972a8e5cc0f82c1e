//! `stagedoor preflight`: checks an installation before the sale, from the place where it will run. Nothing
//! is created or migrated; the shop's receiver gets one test event.

mod events;
mod node;
mod report;
mod servers;
mod shop;
mod sign_in;

use anyhow::bail;

pub use self::report::{Check, Report, Verdict};
use crate::ops::config::{ConfigError, Settings};

/// Checks everything that these settings need, and prints a line for each.
///
/// # Errors
/// When a check has failed.
pub async fn run(settings: Result<Settings, ConfigError>, as_json: bool) -> anyhow::Result<()> {
    let report = match settings {
        Ok(settings) => check(&settings).await,
        Err(error) => Report::of_configuration(&error),
    };
    if as_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    match report.count(Verdict::Failed) {
        0 => Ok(()),
        failed => bail!("{failed} checks failed"),
    }
}

/// All checks, in the order in which an operator mends what they find.
pub async fn check(settings: &Settings) -> Report {
    let mut report = Report::default();
    report.ok("configuration", "it can be used");
    node::sales(settings, &mut report);
    node::keys(settings, &mut report);
    node::descriptors(settings, &mut report);
    node::disk(settings, &mut report);
    node::gateway(settings, &mut report);
    servers::databases(settings, &mut report).await;
    servers::redis(settings, &mut report).await;
    servers::proxy(settings, &mut report).await;
    shop::check(settings, &mut report).await;
    events::check(settings, &mut report).await;
    report
}

#[cfg(test)]
mod tests;
