//! The run: prepare the service, let the crowd come, audit, write the result.

use std::{fs, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use stagedoor::{
    demo::client::{Observations, visit::Visit},
    kernel::{Clock, SystemClock, Timestamp},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    args::{CrowdArgs, RunKind},
    output::{print_summary, write_result},
    plan::RunPlan,
    progress::{EndedEarly, Progress},
};
use crate::{
    audit::{FinalSeatMap, Gathered, Verdict, judge, observe},
    crowd::Crowd,
    environment::{Service, ServiceArgs},
    http1::Http1Client,
    process::machine,
    result::{EXPIRY_GRACE, FanFigures, Goodput, OBSERVATIONS_FILE, RunResult, write_observations},
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// The file with what the status told each second.
const STATUSES_FILE: &str = "statuses.json";
/// How long the observer may take to answer at the end.
const OBSERVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a crowd against a service and judges the outcome.
///
/// # Errors
/// An argument is wrong, the service does not start, or a file cannot be written.
pub async fn run(kind: RunKind, service: ServiceArgs, crowd: CrowdArgs) -> anyhow::Result<ExitCode> {
    let plan = RunPlan::new(kind, &service, &crowd)?;
    fs::create_dir_all(&crowd.out).with_context(|| format!("--out: cannot make {}", crowd.out.display()))?;
    let mut service = Service::prepare(&service, &plan.sale).await?;
    let config = plan.crowd(&crowd, &service)?;
    println!("{}\n{}", plan.what, service.description);
    wait_until(plan.start_at).await;
    let began_at = SystemClock::new().now();
    let target = &service.target;
    let client = Http1Client::new(target.address, &target.authority, crowd.connections, TIMEOUT);
    let visitors = Arc::new(Crowd::new(config, client));
    let observer = Observer::start(&visitors, &service, &crowd);
    let progress = Progress::follow(&visitors, &mut service).await;
    let ended_at = SystemClock::new().now();
    let (verdict, observations) = observer
        .audit(&visitors, &service, &progress, ended_at, &crowd)
        .await;
    let series = visitors.recorder.seconds();
    let result = RunResult {
        what: plan.what,
        service: service.description.clone(),
        machine: machine(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began_at: began_at.to_string(),
        seconds: progress.seconds,
        ended_early: progress.ended_early.as_ref().map(EndedEarly::reason),
        part: crowd.part.clone(),
        fans: fan_figures(&observations, &visitors),
        calls: visitors.recorder.calls(),
        errors: visitors.recorder.errors(),
        goodput: Goodput::of(&series),
        series,
        streams: (crowd.streams > 0).then_some(progress.streams),
        server: progress.server,
        client: progress.client,
        forecasts: Some(visitors.forecasts.lock().figures()),
        audit: Some(verdict),
    };
    write_result(&result, &crowd.out)?;
    write_statuses(&visitors, &crowd.out.join(STATUSES_FILE))?;
    write_observations(&observations, &crowd.out.join(OBSERVATIONS_FILE))?;
    println!(
        "written to {}: result.json, report.html, {STATUSES_FILE}, {OBSERVATIONS_FILE}",
        crowd.out.display()
    );
    Ok(print_summary(&result))
}

fn write_statuses(crowd: &Crowd, file: &Path) -> anyhow::Result<()> {
    let statuses = serde_json::to_vec(&*crowd.forecasts.lock())?;
    fs::write(file, statuses).with_context(|| format!("cannot write {}", file.display()))
}

async fn wait_until(start_at: Option<Timestamp>) {
    let Some(at) = start_at else { return };
    let rest = at.since(SystemClock::new().now());
    println!("the crowd arrives in {rest:?}");
    tokio::time::sleep(rest).await;
}

/// The admitted visitor who reads the seat map at the end, where the run is audited.
struct Observer {
    task: Option<JoinHandle<Option<Visit<Arc<Crowd>>>>>,
    stop: watch::Sender<bool>,
}

impl Observer {
    fn start(crowd: &Arc<Crowd>, service: &Service, args: &CrowdArgs) -> Self {
        let (stop, stopped) = watch::channel(false);
        let is_audited = service.databases.is_some() && args.part.is_none();
        let task = is_audited.then(|| tokio::spawn(observe(Arc::clone(crowd), stopped)));
        Self { task, stop }
    }

    /// Waits until every hold has expired, then audits. The observations include those made while waiting.
    async fn audit(
        self,
        crowd: &Crowd,
        service: &Service,
        progress: &Progress,
        ended_at: Timestamp,
        args: &CrowdArgs,
    ) -> (Verdict, Observations) {
        if args.part.is_some() {
            let verdict = Verdict::not_audited("a part of a run: merge the parts");
            return (verdict, crowd.log.snapshot());
        }
        let is_gone = matches!(progress.ended_early, Some(EndedEarly::ServiceGone(_)));
        let settled = !is_gone && !args.no_settle;
        if settled {
            let longest = service.hold_ttl + EXPIRY_GRACE;
            println!("waiting {longest:?} until every hold has expired");
            tokio::time::sleep(longest).await;
        }
        self.stop.send_replace(true);
        let last_hold_at = if settled {
            ended_at
        } else {
            SystemClock::new().now()
        };
        let visit = match self.task {
            Some(task) if !is_gone => tokio::time::timeout(OBSERVER_TIMEOUT, task).await.ok(),
            _ => None,
        };
        let seat_map = match visit.and_then(Result::ok).flatten() {
            Some(mut visit) => visit.seat_map(&crowd.config.performance).await.ok(),
            None => None,
        };
        let seat_map = seat_map.map(|map| FinalSeatMap {
            seats: map.seats.into_iter().collect(),
            holds_ended_at: last_hold_at.plus(service.hold_ttl),
        });
        let observations = crowd.log.snapshot();
        let gathered = Gathered {
            observations: &observations,
            seat_map,
            settled,
        };
        (judge(service, gathered).await, observations)
    }
}

fn fan_figures(observations: &Observations, crowd: &Crowd) -> FanFigures {
    FanFigures {
        coming: u32::try_from(crowd.config.arrivals.len()).unwrap_or(u32::MAX),
        joined: observations.joined,
        entered: observations.entered,
        held: observations.held,
        conflicts: observations.conflicts,
        tickets: observations.tickets,
        active_max: observations.active_max,
        endings: observations.endings.clone(),
        orders: observations.orders_by_state.clone(),
    }
}
