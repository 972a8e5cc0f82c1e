//! How many sign-ins a second this machine can take, measured at the start with the shop's own hashes.

use std::sync::Arc;

use crate::{
    kernel::Clock,
    shop::{
        directory::SqlDirectory,
        passwords::{HashSample, MeasuredHash, PasswordFormat, StoredHash},
        types::{Config, OpenError},
    },
};

/// As many customers tell which format is the most frequent.
const SAMPLE_MAX: u32 = 100;

/// Verifies one stored password, and says what follows for the sign-ins. `None` when the shop does not answer
/// or has no password that can be verified: then the first sign-ins tell.
///
/// # Errors
/// [`OpenError::PasswordsTooSlow`]
pub(super) async fn measure(
    config: &Config,
    directory: &SqlDirectory,
    clock: &Arc<dyn Clock>,
) -> Result<Option<MeasuredHash>, OpenError> {
    let hashes = sample(config, directory).await;
    let (limits, clock) = (config.password_limits, Arc::clone(clock));
    let measuring = tokio::task::spawn_blocking(move || {
        let first = hashes.measure(&*clock)?;
        if limits.can_serve(first.check_time) {
            return Some(first);
        }
        // A machine that is busy starting others must not be taken for a slow one.
        let second = hashes.measure(&*clock)?;
        Some(if second.check_time < first.check_time {
            second
        } else {
            first
        })
    });
    let Ok(Some(measured)) = measuring.await else {
        tracing::info!(
            threads = limits.threads,
            "what a verification of a password costs was not measured: no stored password of the shop could \
             be read (shop.customer_sample_query)"
        );
        return Ok(None);
    };
    let (format, check_time) = (measured.hash.format().name(), measured.check_time);
    if !limits.can_serve(check_time) {
        return Err(OpenError::PasswordsTooSlow {
            format,
            check_time,
            wait_max: limits.wait_max,
        });
    }
    tracing::info!(
        format,
        threads = limits.threads,
        check_ms = check_time.as_millis(),
        sign_ins_per_second = format!("{:.1}", limits.checks_per_second(check_time)),
        may_wait = limits.waiting(check_time),
        password_queue_max = limits.queue_max,
        "sign-ins by password: threads, what one verification takes, and what follows"
    );
    Ok(Some(measured))
}

async fn sample(config: &Config, directory: &SqlDirectory) -> HashSample {
    let allowed_unsafe = PasswordFormat::unsafe_named(&config.unsafe_password_formats);
    let mut hashes = HashSample::default();
    if !directory.is_inspected() {
        return hashes;
    }
    let records = directory.sample(SAMPLE_MAX).await;
    for record in records.and_then(Result::ok).unwrap_or_default() {
        let stored = record.into_customer();
        let hash = stored
            .ok()
            .and_then(|it| StoredHash::parse(&it.password_hash, &allowed_unsafe).ok());
        if let Some(hash) = hash {
            hashes.add(hash);
        }
    }
    hashes
}
