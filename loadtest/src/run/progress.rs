//! Follows a crowd second by second: memory, CPU, and a line of progress.

use std::{sync::Arc, time::Duration};

use crate::{
    crowd::Crowd, environment::Service, process::Usage, recorder::Second, result::ProcessFigures,
    sse_client::StreamFigures,
};

/// How a run went, beside what the crowd recorded.
pub struct Progress {
    /// How long the run took.
    pub seconds: f64,
    /// Why it ended early, if it did.
    pub ended_early: Option<EndedEarly>,
    /// The service's process, if the run started it.
    pub server: Option<ProcessFigures>,
    /// This process.
    pub client: Option<ProcessFigures>,
    /// What the event streams carried.
    pub streams: StreamFigures,
}

/// Why a run ended before its last visitor.
#[derive(Clone, Debug)]
pub enum EndedEarly {
    /// The service ended or does not answer.
    ServiceGone(String),
    /// The time limit.
    Limit(Duration),
}

impl EndedEarly {
    /// One sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::ServiceGone(how) => how.clone(),
            Self::Limit(limit) => format!("the run took longer than {limit:?} (--limit)"),
        }
    }
}

/// A process and its usage before the run.
struct Watched {
    before: Usage,
    figures: ProcessFigures,
}

impl Watched {
    fn new(before: Usage) -> Self {
        let figures = ProcessFigures {
            rss_before_kib: before.rss_kib,
            ..ProcessFigures::default()
        };
        Self { before, figures }
    }

    fn update(&mut self, usage: Usage, crowd: &Crowd) {
        let figures = &mut self.figures;
        figures.rss_peak_kib = figures.rss_peak_kib.max(usage.rss_kib);
        figures.cpu_s = usage.cpu.saturating_sub(self.before.cpu).as_secs_f64();
        // Overwritten until the last join is answered: then it is the memory when all had joined.
        if crowd.waiting_and_joining().1 > 0 || figures.rss_joined_kib == 0 {
            let (joined, ..) = crowd.log.counts();
            figures.rss_joined_kib = usage.rss_kib;
            figures.bytes_per_fan = per_fan(self.before.rss_kib, usage.rss_kib, joined);
        }
    }
}

/// Memory of each fan in bytes. `None` when the process has not grown: it used memory that it had before, and
/// how much of it cannot be told.
#[expect(clippy::cast_precision_loss, reason = "bytes of some gigabytes")]
fn per_fan(before_kib: u64, kib: u64, fans: u32) -> Option<f64> {
    let grown_kib = kib.checked_sub(before_kib).filter(|grown| *grown > 0)?;
    Some((grown_kib * 1_024) as f64 / f64::from(fans.max(1)))
}

impl Progress {
    /// Runs the crowd until its last visitor is done or the service is gone.
    pub async fn follow(crowd: &Arc<Crowd>, service: &mut Service) -> Self {
        let mut server = service.usage().map(Watched::new);
        let mut client = Usage::of(std::process::id()).map(Watched::new);
        let running = tokio::spawn({
            let crowd = Arc::clone(crowd);
            async move { crowd.run().await }
        });
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut ended_early) = (Second::default(), None);
        let mut cpu = service.usage().unwrap_or_default().cpu;
        while !running.is_finished() {
            interval.tick().await;
            let usages = [
                (service.usage(), &mut server),
                (Usage::of(std::process::id()), &mut client),
            ];
            for (usage, watched) in usages {
                if let (Some(usage), Some(watched)) = (usage, watched.as_mut()) {
                    watched.update(usage, crowd);
                }
            }
            if let Some(usage) = service.usage() {
                let used = u64::try_from(usage.cpu.saturating_sub(cpu).as_millis()).unwrap_or(0);
                cpu = usage.cpu;
                crowd.recorder.second(crowd.elapsed(), |second| {
                    second.rss_kib = usage.rss_kib;
                    second.cpu_ms += used;
                });
            }
            print_second(crowd, &mut last);
            if let Some(how) = service.ended() {
                ended_early = Some(EndedEarly::ServiceGone(how));
                running.abort();
                break;
            }
        }
        let _ = running.await;
        Self {
            seconds: crowd.elapsed().as_secs_f64(),
            ended_early: ended_early.or_else(|| why_ended(crowd)),
            server: server.map(|watched| watched.figures),
            client: client.map(|watched| watched.figures),
            streams: crowd.streams.figures(None),
        }
    }
}

fn why_ended(crowd: &Crowd) -> Option<EndedEarly> {
    if crowd.is_unreachable() {
        return Some(EndedEarly::ServiceGone(
            "the service no longer answers".to_owned(),
        ));
    }
    (crowd.elapsed() >= crowd.config.limit).then_some(EndedEarly::Limit(crowd.config.limit))
}

/// One line of progress: sums, and what the last second added.
fn print_second(crowd: &Crowd, last: &mut Second) {
    let (joined, entered, tickets) = crowd.log.counts();
    let (waiting, joining) = crowd.waiting_and_joining();
    let status = crowd.queue_status();
    let seats = status.seat_totals();
    let mut sum = Second::default();
    crowd.recorder.seconds().iter().for_each(|second| sum.add(second));
    let added = |of: fn(&Second) -> u64| of(&sum).saturating_sub(of(last));
    println!(
        "{:>5.0} s  joined {joined} (+{joining} in flight)  waiting {waiting}  called {}  admitted {entered} \
          \
         active {}  tickets {tickets}  free {} held {} booked {}  | answered {}/s refused {} failed {}  {}",
        crowd.elapsed().as_secs_f64(),
        status.now_serving,
        status.active_visits,
        seats.free,
        seats.held,
        seats.booked,
        added(|second| second.answered),
        added(|second| second.refused),
        added(|second| second.failed),
        status.phase
    );
    *last = sum;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_has_not_grown_says_nothing_of_a_fan() {
        assert_eq!(per_fan(900, 800, 10), None);
        assert_eq!(per_fan(900, 900, 10), None);
        assert_eq!(per_fan(900, 910, 10), Some(1_024.0));
        let figures = ProcessFigures::default();
        assert_eq!(figures.memory_of_a_fan(), "not measurable");
    }
}
