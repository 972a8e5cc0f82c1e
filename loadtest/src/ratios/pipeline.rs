//! What a Redis does at the most for a client of one connection: commands in pipelines, and nothing around them.

use std::sync::Arc;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use stagedoor::kernel::{Clock, SystemClock};

use super::sides::{PAIRS, Pairs, ROUND, Round, Side, WORKERS, round};

/// Rounds of `ours` beside rounds of a pipeline that writes a field a request, as many at once as there are workers.
pub(super) async fn compare(ours: &Side, redis: &str) -> anyhow::Result<Pairs> {
    let mut connection = redis::Client::open(redis)?
        .get_multiplexed_async_connection()
        .await
        .context("the floor's Redis")?;
    let mut pairs = Vec::new();
    for _ in 0..=PAIRS {
        pairs.push((round(ours).await?, writes(&mut connection).await?));
    }
    pairs.remove(0);
    let () = redis::cmd("DEL")
        .arg("floor")
        .query_async(&mut connection)
        .await?;
    Ok(Pairs(pairs))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn writes(connection: &mut MultiplexedConnection) -> anyhow::Result<Round> {
    let clock = Arc::new(SystemClock::new());
    let (began, mut done) = (clock.monotonic(), 0_u64);
    loop {
        let seconds = clock.monotonic().saturating_sub(began);
        if seconds >= ROUND {
            return Ok(Round {
                done: done as f64,
                seconds: seconds.as_secs_f64(),
                cpu_s: 0.0,
            });
        }
        let mut pipeline = redis::pipe();
        for _ in 0..WORKERS {
            // A million fields, so that it does not grow without end.
            pipeline
                .cmd("HSET")
                .arg("floor")
                .arg(done % 1_000_000)
                .arg(done)
                .ignore();
            done += 1;
        }
        let () = pipeline.query_async(connection).await?;
    }
}
