//! The most that one Redis does for a client of one connection: commands in pipelines and nothing around
//! them.

use std::sync::Arc;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use stagedoor::kernel::{Clock, SystemClock};

use super::paired::{PAIRS, Pairs, ROUND, Round, Side, WORKERS, round};

const KEY: &str = "baseline";
/// The hash's size is bounded, so that memory does not grow with the measurement.
const FIELDS: u64 = 1_000_000;

/// Alternates `ours` with a pipeline that writes one field for each request, as many at once as there are
/// workers.
pub(super) async fn compare(ours: &Side, redis_url: &str) -> anyhow::Result<Pairs> {
    let mut connection = redis::Client::open(redis_url)?
        .get_multiplexed_async_connection()
        .await
        .context("the baseline's Redis")?;
    let mut pairs = Vec::new();
    for _ in 0..=PAIRS {
        pairs.push((round(ours).await?, write_round(&mut connection).await?));
    }
    pairs.remove(0);
    let () = redis::cmd("DEL").arg(KEY).query_async(&mut connection).await?;
    Ok(Pairs(pairs))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn write_round(connection: &mut MultiplexedConnection) -> anyhow::Result<Round> {
    let clock = Arc::new(SystemClock::new());
    let (began, mut done) = (clock.monotonic(), 0_u64);
    loop {
        let elapsed = clock.monotonic().saturating_sub(began);
        if elapsed >= ROUND {
            return Ok(Round {
                done: done as f64,
                seconds: elapsed.as_secs_f64(),
                cpu_s: 0.0,
            });
        }
        let mut pipeline = redis::pipe();
        for _ in 0..WORKERS {
            pipeline
                .cmd("HSET")
                .arg(KEY)
                .arg(done % FIELDS)
                .arg(done)
                .ignore();
            done += 1;
        }
        let () = pipeline.query_async(connection).await?;
    }
}
