//! The process as a whole: why it must end, and what keeps it from being ready.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The state of the process, shared by all its parts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Process(Arc<State>);

#[derive(Debug, Default)]
struct State {
    failure: OnceLock<String>,
    has_failed: CancellationToken,
    /// Conditions that are not met, by a serial number, each with its name.
    unmet: Mutex<BTreeMap<u64, String>>,
    conditions: Mutex<u64>,
}

/// One condition of readiness. It is met until [`Condition::set`] says otherwise, and again once it is
/// dropped.
#[derive(Debug)]
pub struct Condition {
    process: Process,
    serial: u64,
    name: String,
}

impl Process {
    /// The process must not go on: it ends with this reason and a non-zero status, and a supervisor starts it
    /// again. Only the first failure counts.
    pub fn fail(&self, reason: String) {
        tracing::error!(%reason, "this process cannot go on and ends now");
        let _ = self.0.failure.set(reason);
        self.0.has_failed.cancel();
    }

    /// Whether [`Process::fail`] has been called.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.has_failed.is_cancelled()
    }

    /// Resolves with the reason once [`Process::fail`] has been called.
    pub async fn failed(&self) -> String {
        self.0.has_failed.cancelled().await;
        self.0.failure.get().cloned().unwrap_or_default()
    }

    /// Adds a condition of readiness. `name` completes "not ready: ...".
    #[must_use]
    pub fn condition(&self, name: String) -> Condition {
        let mut conditions = self.0.conditions.lock();
        *conditions += 1;
        Condition {
            process: self.clone(),
            serial: *conditions,
            name,
        }
    }

    /// The names of the conditions that are not met.
    #[must_use]
    pub fn unmet_conditions(&self) -> Vec<String> {
        self.0.unmet.lock().values().cloned().collect()
    }
}

impl Condition {
    /// Sets whether the condition is met; returns whether that is a change.
    pub fn set(&self, is_met: bool) -> bool {
        let mut unmet = self.process.0.unmet.lock();
        if is_met {
            unmet.remove(&self.serial).is_some()
        } else {
            unmet.insert(self.serial, self.name.clone()).is_none()
        }
    }

    /// Whether the condition is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        !self.process.0.unmet.lock().contains_key(&self.serial)
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_counts_until_it_is_met_or_dropped() {
        let process = Process::default();
        let (one, other) = (process.condition("one".into()), process.condition("other".into()));
        assert!(process.unmet_conditions().is_empty());
        assert!(one.set(false) && !one.set(false) && other.set(false));
        assert_eq!(process.unmet_conditions(), ["one", "other"]);
        assert!(one.set(true) && one.is_met());
        drop(other);
        assert!(process.unmet_conditions().is_empty());
    }

    #[tokio::test]
    async fn the_first_failure_is_the_reason() {
        let process = Process::default();
        process.fail("a flush failed".into());
        process.fail("another".into());
        assert_eq!(process.failed().await, "a flush failed");
    }
}
