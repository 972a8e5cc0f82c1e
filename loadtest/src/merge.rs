//! The parts of one run, made by several processes, as one: figures added up, and judged together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use stagedoor::kernel::{Clock, SystemClock, Timestamp};

use crate::{
    audit::{Testimony, Verdict, judge},
    ground::{Engine, Ground, GroundArgs},
    result::RunResult,
    run::{SWEPT_WITHIN, conclude, leave_result},
    told::Testimonies,
};

/// Which parts, and against which house they were run.
#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// The result.json of each part; what its clients were told, told.json, lies beside it.
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Where the whole is left.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The house that they shared, http://HOST:PORT, so that the auditor can hold what all were told against its books.
    #[arg(long, value_name = "URL", requires = "books")]
    pub target: Option<String>,
    /// Its sale, if it has several.
    #[arg(long, value_name = "ID")]
    pub sale: Option<String>,
    /// Where it keeps its books: its data directory on this machine.
    #[arg(long, value_name = "DIR", requires = "target")]
    pub books: Option<PathBuf>,
    /// Seconds that its holds last: until then and a sweep more some may be left.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub hold: u32,
}

/// Adds up, and judges where the books can be read.
pub async fn run(args: MergeArgs) -> anyhow::Result<ExitCode> {
    let parts = args
        .parts
        .iter()
        .map(|file| RunResult::read(file))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut whole = RunResult::merged(&parts)?;
    whole.audit = Some(verdict(&args, &parts).await?);
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    leave_result(&whole, &args.out)?;
    Ok(conclude(&whole))
}

async fn verdict(args: &MergeArgs, parts: &[RunResult]) -> anyhow::Result<Verdict> {
    if args.target.is_none() {
        let why = "name the house that the parts shared, and its books: --target, --books";
        return Ok(Verdict {
            not_audited: Some(why.to_owned()),
            ..Verdict::default()
        });
    }
    let place = GroundArgs {
        target: args.target.clone(),
        sale: args.sale.clone(),
        books: args.books.clone(),
        hold: args.hold,
        ..GroundArgs::started(Engine::Memory, None)
    };
    let ground = Ground::found_at(&place).await?;
    let mut all = Testimonies::default();
    for file in &args.parts {
        all.add(Testimonies::read(
            &file.parent().unwrap_or(Path::new("")).join("told.json"),
        )?);
    }
    let settled = match parts
        .iter()
        .map(ended_at)
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .max()
    {
        Some(last) => SystemClock::new().now() >= last.plus(ground.hold + SWEPT_WITHIN),
        None => false,
    };
    // Nobody is inside any more who could say what the engine thinks.
    Ok(judge(
        &ground,
        Testimony {
            told: &all,
            map: None,
            settled,
        },
    )
    .await)
}

/// When the last of its fans had gone.
fn ended_at(part: &RunResult) -> anyhow::Result<Timestamp> {
    let begun: Timestamp = part
        .begun_at
        .parse()
        .ok()
        .with_context(|| format!("begun_at {:?}: must be RFC 3339", part.begun_at))?;
    Ok(begun.plus(Duration::try_from_secs_f64(part.seconds).unwrap_or_default()))
}
