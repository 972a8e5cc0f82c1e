//! Merges the parts of one run that several processes made, and audits them together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use stagedoor::{
    demo::client::Observations,
    kernel::{Clock, SystemClock, Timestamp},
};

use crate::{
    audit::{Gathered, Verdict, judge},
    environment::{Backend, Service, ServiceArgs},
    result::{EXPIRY_GRACE, OBSERVATIONS_FILE, RunResult, read_observations},
    run::output::{print_summary, write_result},
};

/// Which parts, and the service that they shared.
#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// The result.json of each part; its observations.json lies beside it.
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Where the merged result is written.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The service that the parts shared, http://HOST:PORT, to audit them against its databases.
    #[arg(long, value_name = "URL", requires = "target_data")]
    pub target: Option<String>,
    /// Its sale, if it has several.
    #[arg(long, value_name = "ID")]
    pub sale: Option<String>,
    /// Its data directory on this machine.
    #[arg(long, value_name = "DIR", requires = "target")]
    pub target_data: Option<PathBuf>,
    /// Seconds that its holds last.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub hold_ttl: u32,
}

/// Merges the results, and audits them where the databases can be read.
///
/// # Errors
/// The parts do not belong together, or a file cannot be read or written.
pub async fn run(args: MergeArgs) -> anyhow::Result<ExitCode> {
    let parts = args
        .parts
        .iter()
        .map(|file| RunResult::read(file))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut whole = RunResult::merged(&parts)?;
    whole.audit = Some(audit(&args, &parts).await?);
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    write_result(&whole, &args.out)?;
    Ok(print_summary(&whole))
}

async fn audit(args: &MergeArgs, parts: &[RunResult]) -> anyhow::Result<Verdict> {
    if args.target.is_none() {
        return Ok(Verdict::not_audited(
            "pass the service that the parts shared and its data directory: --target, --target-data",
        ));
    }
    let service = Service::find(&ServiceArgs {
        target: args.target.clone(),
        sale: args.sale.clone(),
        target_data: args.target_data.clone(),
        hold_ttl: args.hold_ttl,
        ..ServiceArgs::started(Backend::Embedded, None)
    })
    .await?;
    let mut observations = Observations::default();
    for file in &args.parts {
        let folder = file.parent().unwrap_or(Path::new(""));
        observations.merge(read_observations(&folder.join(OBSERVATIONS_FILE))?);
    }
    let ends = parts.iter().map(ended_at).collect::<anyhow::Result<Vec<_>>>()?;
    let settled = ends
        .into_iter()
        .max()
        .is_some_and(|last| SystemClock::new().now() >= last.plus(service.hold_ttl + EXPIRY_GRACE));
    // No visitor is admitted any more who could read the seat map.
    Ok(judge(
        &service,
        Gathered {
            observations: &observations,
            seat_map: None,
            settled,
        },
    )
    .await)
}

/// When the part's last visitor was done.
fn ended_at(part: &RunResult) -> anyhow::Result<Timestamp> {
    let began_at: Option<Timestamp> = part.began_at.parse().ok();
    let began_at = began_at.with_context(|| format!("began_at {:?}: must be RFC 3339", part.began_at))?;
    Ok(began_at.plus(Duration::try_from_secs_f64(part.seconds).unwrap_or_default()))
}
