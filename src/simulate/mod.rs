//! Sales in virtual time: what the door and its estimates are worth, before a real crowd finds out.
//!
//! A rehearsal runs the room's own policy, show-up model, pace, estimate table and memory store; only the clock, the
//! crowd and the journal's disk are not real. A seed replays a sale exactly.

mod crowd;
mod forecasts;
pub(crate) mod judge;
mod sale;
mod scenarios;

use serde::Serialize;

pub use self::{
    forecasts::Worth,
    scenarios::{SCENARIOS, Scenario, UnknownScenario, named},
};
use self::{
    forecasts::{Forecast, worth},
    sale::{Diary, Sale},
};
use crate::waiting_room::StoreError;

/// One sale as it was rehearsed.
#[derive(Debug)]
pub struct Rehearsal {
    pub seed: u64,
    pub course: Course,
    forecasts: Vec<Forecast>,
    unsaid: u32,
    slots: [u64; 2],
    came: u64,
    met_full_house: u64,
    extra_waits_ms: Vec<u64>,
    entries: u64,
    returner_entries: u64,
    violations: Vec<String>,
    violations_total: u64,
}

/// How a sale went, for plots.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub capacity: u32,
    pub sold_out_s: Option<u32>,
    pub points: Vec<CoursePoint>,
}

/// One moment of it. The estimate is that of somebody who takes a place at the end of the line at this moment.
#[derive(Clone, Copy, Debug)]
pub struct CoursePoint {
    pub at_s: u32,
    pub waiting: u32,
    pub active: u32,
    pub entries: u64,
    pub wait_s: Option<[u32; 3]>,
    pub actual_s: Option<u32>,
}

/// What many rehearsals of one scenario came to. Names are those of the report's JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub scenario: &'static str,
    pub disturbed: bool,
    #[serde(flatten)]
    pub figures: Figures,
    /// Invariants that were broken, in words.
    pub violations: Vec<String>,
    /// Seeds in which one was.
    pub broken_seeds: Vec<u64>,
}

/// What must be reached; `null` where the sale gave nothing to measure it by.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    pub runs: usize,
    #[serde(flatten)]
    pub worth: Worth,
    pub slot_use: Option<f64>,
    /// Share of those who came when called and found no room at once; how long nineteen of twenty of them then waited.
    pub met_full_house: Option<f64>,
    pub extra_wait_p95_s: Option<f64>,
    /// Share of entries.
    pub returner_share: Option<f64>,
    /// Times somebody asked and the board gave no estimate.
    pub unsaid: u64,
    pub violations_total: u64,
}

/// Rehearses one sale.
pub async fn rehearse(scenario: &Scenario, fans: u32, seed: u64) -> Result<Rehearsal, StoreError> {
    let (diary, issued_by) = Sale::new(scenario, fans, seed).run().await?;
    let (forecasts, unsaid) = forecasts::draw(&diary, &issued_by, seed);
    let (violations, violations_total) = diary.judge.violations();
    Ok(Rehearsal {
        seed,
        course: course(&diary),
        forecasts,
        unsaid,
        slots: [diary.slots.used, diary.slots.offered],
        came: diary.came,
        met_full_house: diary.met_full_house,
        entries: diary.judge.entries(),
        returner_entries: diary.judge.returner_entries(),
        violations: violations.to_vec(),
        violations_total,
        extra_waits_ms: diary.extra_waits_ms,
    })
}

/// Judges the rehearsals of one scenario.
pub fn judge(scenario: &Scenario, rehearsals: &[Rehearsal]) -> Verdict {
    let mut violations: Vec<String> = rehearsals
        .iter()
        .flat_map(|it| {
            it.violations
                .iter()
                .map(|what| format!("seed {}: {what}", it.seed))
        })
        .collect();
    violations.truncate(20);
    Verdict {
        scenario: scenario.name,
        disturbed: scenario.is_disturbed(),
        figures: figures(rehearsals),
        violations,
        broken_seeds: rehearsals
            .iter()
            .filter(|it| it.violations_total > 0)
            .map(|it| it.seed)
            .collect(),
    }
}

/// The figures of any rehearsals together.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn figures<'a>(rehearsals: impl IntoIterator<Item = &'a Rehearsal>) -> Figures {
    let rehearsals: Vec<&Rehearsal> = rehearsals.into_iter().collect();
    let forecasts: Vec<Forecast> = rehearsals
        .iter()
        .flat_map(|it| it.forecasts.iter().copied())
        .collect();
    let sum = |of: fn(&Rehearsal) -> u64| rehearsals.iter().map(|it| of(it)).sum::<u64>();
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    let mut extra_ms: Vec<u64> = rehearsals
        .iter()
        .flat_map(|it| it.extra_waits_ms.iter().copied())
        .collect();
    extra_ms.sort_unstable();
    Figures {
        runs: rehearsals.len(),
        worth: worth(&forecasts),
        slot_use: share(sum(|it| it.slots[0]), sum(|it| it.slots[1])),
        met_full_house: share(sum(|it| it.met_full_house), sum(|it| it.came)),
        extra_wait_p95_s: extra_ms
            .get(extra_ms.len() * 95 / 100)
            .map(|&ms| ms as f64 / 1_000.0),
        returner_share: share(sum(|it| it.returner_entries), sum(|it| it.entries)),
        unsaid: sum(|it| it.unsaid.into()),
        violations_total: sum(|it| it.violations_total),
    }
}

/// Points a plot shows at most.
const POINTS_MAX: usize = 400;

fn course(diary: &Diary) -> Course {
    let every = diary.boards.len().div_ceil(POINTS_MAX).max(1);
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let points = diary
        .boards
        .iter()
        .enumerate()
        .step_by(every)
        .map(|(second, board)| {
            let at_s = u32::try_from(second).unwrap_or(u32::MAX);
            let called = diary
                .calls
                .get(diary.calls.partition_point(|(upto, _)| *upto < board.issued));
            let waiting = board.issued.saturating_sub(board.now_serving);
            CoursePoint {
                at_s,
                waiting,
                active: board.active,
                entries: board.entries,
                wait_s: crate::waiting_room::forecast::wait_table::interpolate(
                    &board.table,
                    waiting.saturating_sub(1).into(),
                ),
                actual_s: called.map(|(_, ms)| seconds(*ms).saturating_sub(at_s)),
            }
        });
    Course {
        capacity: diary.capacity,
        sold_out_s: diary.sold_out_ms.map(seconds),
        points: points.collect(),
    }
}

#[cfg(test)]
mod tests;
