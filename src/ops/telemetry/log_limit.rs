//! Limits repeated log lines. A fault that fails every request would otherwise write a line for each of them,
//! and hide the line that says what is wrong.
//!
//! Of each place in the code that logs a warning or an error, the first lines of a period are written. The
//! others are counted, and the count is written when the period is over.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
};

/// Lines of one place that are written in a period.
const LINES_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);
/// Where the counts are logged from; they are not limited.
const TARGET: &str = "stagedoor::log_limit";

/// Decides which lines are written.
#[derive(Default)]
pub(super) struct LogLimit(Mutex<HashMap<Identifier, Lines>>);

/// The lines of one place in this period.
struct Lines {
    place: &'static Metadata<'static>,
    count: u32,
}

impl LogLimit {
    fn admits(&self, place: &'static Metadata<'static>) -> bool {
        if *place.level() > Level::WARN || place.target() == TARGET {
            return true;
        }
        let mut lines = self.0.lock();
        let lines = lines.entry(place.callsite()).or_insert(Lines { place, count: 0 });
        lines.count = lines.count.saturating_add(1);
        lines.count <= LINES_MAX
    }

    /// Starts the next period; returns the places that exceeded the limit, and by how many lines.
    fn end_period(&self) -> Vec<(&'static Metadata<'static>, u32)> {
        std::mem::take(&mut *self.0.lock())
            .into_values()
            .filter(|lines| lines.count > LINES_MAX)
            .map(|lines| (lines.place, lines.count - LINES_MAX))
            .collect()
    }
}

impl<S: Subscriber> Filter<S> for &'static LogLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event.metadata())
    }
}

/// Limits the lines that `lines` writes, and starts the thread that writes the counts.
pub(super) fn limited<S>(lines: impl Layer<S> + Send + Sync + 'static) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
{
    let limit: &'static LogLimit = Box::leak(Box::default());
    // A thread, and not a task: logging starts before the runtime and outlasts it.
    let counting = std::thread::Builder::new()
        .name("log-limit".into())
        .spawn(move || {
            loop {
                std::thread::sleep(PERIOD);
                for (place, left_out) in limit.end_period() {
                    tracing::warn!(
                        target: TARGET,
                        left_out,
                        from = place.target(),
                        line = place.line(),
                        "left out repeated log lines of the last {PERIOD:?}"
                    );
                }
            }
        });
    // Without the thread there would be no next period, so nothing is limited.
    lines.with_filter(counting.is_ok().then_some(limit))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, LazyLock},
    };

    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    static LIMIT: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);

    #[test]
    fn repeated_warnings_are_counted_and_others_are_not() {
        let limit: &'static LogLimit = &LIMIT;
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines.with_filter(limit)), || {
            for _ in 0..1_000 {
                tracing::warn!("the disk is full");
                tracing::info!("an order");
            }
            tracing::error!("another fault");
            let left_out = limit.end_period();
            assert_eq!(left_out.len(), 1, "one place exceeded the limit");
            assert_eq!(left_out[0].1, 1_000 - LINES_MAX);
            tracing::warn!("a new period");
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let count = |part: &str| text.matches(part).count();
        assert_eq!(
            (count("disk is full"), count("an order"), count("another fault")),
            (LINES_MAX as usize, 1_000, 1)
        );
        assert_eq!(count("a new period"), 1);
    }
}
