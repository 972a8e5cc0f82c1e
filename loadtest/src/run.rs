//! One run from its beginning to its verdict.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use stagedoor::{
    demo::crowd::CrowdReport,
    kernel::{Clock, SystemClock, Timestamp},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    arrivals::{Shape, times},
    audit::{Testimony, Verdict, judge, map, observe},
    book::Second,
    crowd::{Crowd, CrowdConfig, Looking},
    ground::{Ground, GroundArgs, HANDOFF_SECRET, Scene},
    process::{Usage, machine},
    report,
    result::{Fans, Goodput, RunResult, ServerFigures, parse_part},
    told::Testimonies,
    visitor::Visitor,
    wire::Wire,
};

/// Who comes.
#[derive(Args, Clone, Debug)]
pub struct CrowdArgs {
    /// 2000 for a run, 1000000 for a flash.
    #[arg(long)]
    pub fans: Option<u32>,
    /// constant, poisson, flash, or a file of lines `second,arrivals`; poisson for a run.
    #[arg(long, value_name = "SHAPE|FILE")]
    pub arrivals: Option<Shape>,
    /// They come within so many seconds; 30 for a run, 60 for a flash.
    #[arg(long, value_name = "SECONDS")]
    pub within: Option<u32>,
    /// The same seed brings the same fans at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Human pauses are multiplied by this; 0.1 is ten times as fast.
    #[arg(long)]
    pub pace: Option<f64>,
    /// Of the called, the share who never come.
    #[arg(long, default_value_t = 0.1)]
    pub absent: f64,
    /// Of those who hold seats, the share who walk away from them.
    #[arg(long, default_value_t = 0.03)]
    pub walk_away: f64,
    /// How the waiting look at the board; each for a run, cache for a flash.
    #[arg(long, value_enum)]
    pub looking: Option<Looking>,
    /// Watchers of the board's event stream.
    #[arg(long, default_value_t = 0)]
    pub watchers: u32,
    /// Bots: they take places by the dozen, knock uncalled, and try forged proofs.
    #[arg(long, default_value_t = 0)]
    pub bots: u32,
    /// Connections for all fans together.
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Seconds until the sale of a house that is started opens.
    #[arg(long, value_name = "SECONDS")]
    pub open_in: Option<u32>,
    /// After so many seconds everybody is sent home.
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    pub limit: u32,
    /// Which part of the crowd this process is, of several that share a run: 1/3, 2/3, 3/3; all with the same settings and
    /// the same --begin-at, against one --target.
    #[arg(long, value_name = "N/COUNT")]
    pub part: Option<String>,
    /// The crowd begins to come at this moment (RFC 3339), so that parts come together.
    #[arg(long, value_name = "TIME")]
    pub begin_at: Option<String>,
    /// Where result.json, told.json and report.html are left.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
    /// Does not wait until all holds have ended before the auditor looks.
    #[arg(long)]
    pub hurry: bool,
}

/// What is not said on the command line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Run,
    Flash,
}

/// Exit status of a run that ended before its end.
const ENDED_EARLY: u8 = 3;
const DEADLINE: Duration = Duration::from_secs(10);
/// A hold is over for the last so long after its deadline.
pub const SWEPT_WITHIN: Duration = Duration::from_secs(15);

pub async fn run(kind: Kind, place: GroundArgs, who: CrowdArgs) -> anyhow::Result<ExitCode> {
    let is_flash = kind == Kind::Flash;
    let or = |given: Option<u32>, run: u32, flash: u32| given.unwrap_or(if is_flash { flash } else { run });
    let part = match &who.part {
        None => (1, 1),
        Some(text) => parse_part(text)
            .with_context(|| format!("--part {text}: must be N/COUNT, both from 1, such as 2/3"))?,
    };
    if part.1 > 1 && (place.target.is_none() || who.begin_at.is_none()) {
        bail!("--part: parts of one run need the same --target and the same --begin-at");
    }
    let begin_at: Option<Timestamp> =
        match &who.begin_at {
            None => None,
            Some(text) => Some(text.parse().ok().with_context(|| {
                format!("--begin-at {text}: must be RFC 3339, such as 2027-03-02T11:00:00Z")
            })?),
        };
    for (key, share) in [("--absent", who.absent), ("--walk-away", who.walk_away)] {
        if !(0.0..=1.0).contains(&share) {
            bail!("{key} {share}: must be a share from 0 to 1");
        }
    }
    let pace = who.pace.unwrap_or(if is_flash { 0.2 } else { 0.1 });
    if !(pace.is_finite() && pace >= 0.0) {
        bail!("--pace {pace}: must be 0 or more");
    }
    let fans = or(who.fans, 2_000, 1_000_000);
    let shape = who
        .arrivals
        .clone()
        .unwrap_or(if is_flash { Shape::Flash } else { Shape::Poisson });
    let within = Duration::from_secs(u64::from(or(who.within, 30, 60)));
    let all = times(&shape, fans, within, who.seed)?;
    let mine = |n: &usize| (*n as u64) % u64::from(part.1) == u64::from(part.0 - 1);
    let arrivals: Vec<Duration> = all
        .iter()
        .enumerate()
        .filter(|(n, _)| mine(n))
        .map(|(_, at)| *at)
        .collect();

    let seats = or(place.seats, 500, 66_000);
    let scene = Scene {
        seats,
        rate_per_minute: or(place.rate, 6_000, 12_000),
        capacity: or(place.capacity, 500, 4_000),
        hold_s: place.hold,
        // And the observer.
        max_fans: fans.saturating_add(who.bots * 10 + 1).max(1_000),
        open_in: Duration::from_secs(u64::from(or(who.open_in, 5, 70))),
        watchers_max: who.watchers.max(1),
    };
    fs::create_dir_all(&who.out).with_context(|| format!("--out: cannot make {}", who.out.display()))?;
    let mut ground = Ground::prepare(&place, &scene).await?;
    if ground.facts.sign_in != "none" && ground.shop.is_none() {
        bail!(
            "sale {} asks for a sign-in, and a crowd knows no passwords: say how the shop hands its customers over, --handoff-issuer, \
             --handoff-audience and {HANDOFF_SECRET} in the environment",
            ground.facts.id
        );
    }
    let performance = ground
        .facts
        .performances
        .first()
        .context("a sale without a performance")?
        .id
        .clone();
    let config = CrowdConfig {
        sale: ground.facts.id.clone(),
        performance: performance.clone(),
        shop: ground.shop.clone(),
        arrivals,
        first: part.0,
        every: part.1,
        seed: who.seed,
        pace,
        absent: who.absent,
        walk_away: who.walk_away,
        singles: false,
        good_cards: false,
        looking: who
            .looking
            .unwrap_or(if is_flash { Looking::Cache } else { Looking::Each }),
        watchers: who.watchers,
        bots: who.bots,
        limit: Duration::from_secs(u64::from(who.limit)),
    };
    let what = format!(
        "{}: {fans} fans, {shape} within {within:?}, seed {}, pace {pace}, {:.0} % absent, looking {:?}, {} bots, {} watchers",
        if is_flash { "flash" } else { "run" },
        who.seed,
        who.absent * 100.0,
        config.looking,
        who.bots,
        who.watchers
    );
    println!("{what}\n{}", ground.described);
    wait_for(begin_at).await;
    let begun_at = SystemClock::new().now();
    let before = (
        ground.usage().unwrap_or_default(),
        Usage::of(std::process::id()).unwrap_or_default(),
    );
    let wire = Wire::new(
        ground.target.address,
        &ground.target.authority,
        who.connections,
        DEADLINE,
    );
    let crowd = Arc::new(Crowd::new(config, wire));
    let (leave, stay) = watch::channel(false);
    // Of use only where the books can be read, and are.
    let observer = (ground.books.is_some() && who.part.is_none())
        .then(|| tokio::spawn(observe(Arc::clone(&crowd), stay)));
    let course = Course::follow(&crowd, &mut ground, before).await;
    let gone_at = SystemClock::new().now();
    let (verdict, told) = verdict(
        &crowd,
        &ground,
        observer,
        (&leave, &who),
        (&course, gone_at),
        &performance,
    )
    .await;
    let series = crowd.book.seconds();
    let result = RunResult {
        what,
        house: ground.described.clone(),
        machine: machine(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun_at: begun_at.to_string(),
        seconds: course.seconds,
        ended_early: course.ended_early.clone(),
        part: who.part.clone(),
        fans: fans_of(&told.report, &crowd),
        steps: crowd.book.steps(),
        errors: crowd.book.errors(),
        goodput: Goodput::of(&series),
        series,
        watchers: (who.watchers > 0).then_some(course.watchers),
        server: course.server,
        client: course.client,
        audit: Some(verdict),
    };
    leave_result(&result, &who.out)?;
    told.write(&who.out.join("told.json"))?;
    println!(
        "left in {}: result.json, report.html, told.json",
        who.out.display()
    );
    Ok(conclude(&result))
}

async fn wait_for(begin_at: Option<Timestamp>) {
    let Some(at) = begin_at else { return };
    let rest = at.since(SystemClock::new().now());
    println!("the crowd comes in {rest:?}");
    tokio::time::sleep(rest).await;
}

/// How a run went, beside what the crowd wrote down.
struct Course {
    seconds: f64,
    ended_early: Option<String>,
    server: Option<ServerFigures>,
    client: Option<ServerFigures>,
    watchers: crate::watching::WatchFigures,
}

impl Course {
    /// Says once a second how it goes, until the last fan has gone or the house has.
    async fn follow(crowd: &Arc<Crowd>, ground: &mut Ground, before: (Usage, Usage)) -> Self {
        let living = tokio::spawn({
            let crowd = Arc::clone(crowd);
            async move { crowd.live().await }
        });
        let mut every = tokio::time::interval(Duration::from_secs(1));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let new = |usage: Usage| ServerFigures {
            rss_before_kib: usage.rss_kib,
            ..ServerFigures::default()
        };
        let (mut server, mut client) = (ground.usage().map(|_| new(before.0)), Some(new(before.1)));
        let (mut last, mut ended_early, mut watchers) =
            (Second::default(), None, crate::watching::WatchFigures::default());
        let mut cpu = before.0.cpu;
        while !living.is_finished() {
            every.tick().await;
            let now = crowd.now();
            let (joined, ..) = crowd.told.counts();
            let usages = [
                (ground.usage(), &mut server, before.0),
                (Usage::of(std::process::id()), &mut client, before.1),
            ];
            for (usage, figures, before) in usages {
                let (Some(usage), Some(figures)) = (usage, figures.as_mut()) else {
                    continue;
                };
                figures.rss_peak_kib = figures.rss_peak_kib.max(usage.rss_kib);
                figures.cpu_s = usage.cpu.saturating_sub(before.cpu).as_secs_f64();
                if crowd.waiting().1 > 0 || figures.rss_joined_kib == 0 {
                    figures.rss_joined_kib = usage.rss_kib;
                    figures.bytes_per_fan = per_fan(usage.rss_kib.saturating_sub(before.rss_kib), joined);
                }
            }
            if let Some(usage) = ground.usage() {
                let used = u64::try_from(usage.cpu.saturating_sub(cpu).as_millis()).unwrap_or(0);
                cpu = usage.cpu;
                crowd.book.second(now, |second| {
                    (second.rss_kib, second.cpu_ms) = (usage.rss_kib, second.cpu_ms + used)
                });
            }
            watchers = crowd.watched.figures(None);
            say(crowd, now, &mut last);
            if let Some(how) = ground.ended() {
                ended_early = Some(how);
                living.abort();
                break;
            }
        }
        let _ = living.await;
        if ended_early.is_none() && crowd.is_unreachable() {
            ended_early = Some("the house is not reached any more".to_owned());
        }
        if ended_early.is_none() && crowd.now() >= crowd.config.limit {
            ended_early = Some(format!(
                "the time was over after {:?} (--limit)",
                crowd.config.limit
            ));
        }
        Self {
            seconds: crowd.now().as_secs_f64(),
            ended_early,
            server,
            client,
            watchers,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of some gigabytes")]
fn per_fan(kib: u64, fans: u32) -> f64 {
    (kib * 1_024) as f64 / f64::from(fans.max(1))
}

/// One line of progress: sums, and what the last whole second brought.
fn say(crowd: &Crowd, now: Duration, last: &mut Second) {
    let (joined, entered, tickets) = crowd.told.counts();
    let (waiting, joining) = crowd.waiting();
    let seen = crowd.seen();
    let (free, held, booked) = seen.seats();
    let mut sum = Second::default();
    crowd.book.seconds().iter().for_each(|it| sum.add(it));
    let fresh = |of: fn(&Second) -> u64| of(&sum).saturating_sub(of(last));
    println!(
        "{:>5.0} s  joined {joined} (+{joining} asking)  waiting {waiting}  called {}  entered {entered}  inside {}  tickets {tickets}  free {free} held {held} booked {booked}  | answered {}/s refused {} failed {}  {}",
        now.as_secs_f64(),
        seen.now_serving,
        seen.active,
        fresh(|it| it.answered),
        fresh(|it| it.refused),
        fresh(|it| it.failed),
        seen.phase
    );
    *last = sum;
}

/// Waits until every hold has ended, then lets the auditor look; with what all clients were told until then.
async fn verdict(
    crowd: &Arc<Crowd>,
    ground: &Ground,
    observer: Option<JoinHandle<Option<Visitor>>>,
    (leave, who): (&watch::Sender<bool>, &CrowdArgs),
    (course, gone_at): (&Course, Timestamp),
    performance: &str,
) -> (Verdict, Testimonies) {
    if who.part.is_some() {
        let not_audited = Some("a part of a run: merge the parts".into());
        return (
            Verdict {
                not_audited,
                ..Verdict::default()
            },
            crowd.told.testimonies(),
        );
    }
    let is_gone = course
        .ended_early
        .as_deref()
        .is_some_and(|why| !why.contains("--limit"));
    let longest = ground.hold + SWEPT_WITHIN;
    let settles = !is_gone && !who.hurry;
    if settles {
        println!("waiting {longest:?} until every hold has ended");
        tokio::time::sleep(longest).await;
    }
    leave.send_replace(true);
    let visitor = match observer {
        Some(observer) if !is_gone => tokio::time::timeout(Duration::from_secs(30), observer)
            .await
            .ok()
            .and_then(Result::ok)
            .flatten(),
        _ => None,
    };
    let map = match visitor {
        Some(mut visitor) => map(&mut visitor, performance).await,
        None => None,
    };
    let told = crowd.told.testimonies();
    let map = map.map(|it| {
        (
            it,
            if settles {
                gone_at.plus(ground.hold)
            } else {
                SystemClock::new().now().plus(ground.hold)
            },
        )
    });
    (
        judge(
            ground,
            Testimony {
                told: &told,
                map,
                settled: settles,
            },
        )
        .await,
        told,
    )
}

fn fans_of(told: &CrowdReport, crowd: &Crowd) -> Fans {
    Fans {
        coming: u32::try_from(crowd.config.arrivals.len()).unwrap_or(u32::MAX),
        joined: told.joined,
        entered: told.entered,
        held: told.held,
        conflicts: told.conflicts,
        tickets: told.tickets,
        active_max: told.active_max,
        endings: told.endings.clone(),
        orders: told.orders_by_state.clone(),
    }
}

/// The result for programs and for people.
pub fn leave_result(result: &RunResult, out: &Path) -> anyhow::Result<()> {
    result.write(&out.join("result.json"))?;
    let file = out.join("report.html");
    fs::write(&file, report::page(result)).with_context(|| format!("cannot write {}", file.display()))
}

/// Says what came of it; the exit status to match.
pub fn conclude(result: &RunResult) -> ExitCode {
    let fans = &result.fans;
    println!(
        "{} fans: {} joined, {} entered, {} tickets; {}",
        fans.coming,
        fans.joined,
        fans.entered,
        fans.tickets,
        fans.endings
            .iter()
            .map(|(how, count)| format!("{how} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    for name in ["sign in", "join", "board", "enter", "hold", "order"] {
        let Some(it) = result.steps.get(name) else {
            continue;
        };
        println!(
            "{name:<7} p50 {:>8.2} ms  p99 {:>8.2} ms  longest {:>8.2} ms  of {}; {} refused (p50 {:.2} ms), {} failed",
            it.answered.p50_ms,
            it.answered.p99_ms,
            it.answered.max_ms,
            it.answered.count,
            it.refused.count,
            it.refused.p50_ms,
            it.failed
        );
    }
    if let Some(it) = &result.server {
        println!(
            "server: {:.0} B a fan when all had joined, peak {} MiB, {:.1} s of CPU",
            it.bytes_per_fan,
            it.rss_peak_kib >> 10,
            it.cpu_s
        );
    }
    if let Some(it) = &result.client {
        println!(
            "crowd:  {:.0} B a fan when all had joined, peak {} MiB, {:.1} s of CPU",
            it.bytes_per_fan,
            it.rss_peak_kib >> 10,
            it.cpu_s
        );
    }
    let mut status = ExitCode::SUCCESS;
    if let Some(audit) = &result.audit {
        if let Some(why) = &audit.not_audited {
            println!("not audited: {why}");
        } else {
            println!(
                "auditor: {} violations in {}",
                audit.violations_count,
                audit.looked_at()
            );
            for violation in &audit.violations {
                println!("  {violation}");
            }
            if audit.violations_count > 0 {
                status = ExitCode::FAILURE;
            }
        }
    }
    if let Some(why) = &result.ended_early {
        eprintln!("loadtest: ended early: {why}; what was measured so far is above");
        status = ExitCode::from(ENDED_EARLY);
    }
    status
}
