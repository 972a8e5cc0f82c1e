//! The task that reads the stream of seat changes into the change feed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::{
    RedisError,
    streams::{StreamId, StreamReadReply},
};

use crate::{
    platform::{redis::Connection, shutdown::Lifecycle},
    seating::{
        store::redis::{
            core::StoreCore,
            record::{self, epoch_of},
        },
        types::StoreError,
    },
};

/// Least time between two reads, unless a call waits for what the stream has.
const READ_INTERVAL: Duration = Duration::from_millis(10);
/// How long the server may wait with its reply when nothing has changed.
const BLOCK: Duration = Duration::from_secs(1);
const ENTRIES_MAX: usize = 4_096;
const RESTART_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no reply in time")]
    Timeout,
}

/// Follows the stream until the process stops or the store is dropped.
pub(super) fn start(core: &Arc<StoreCore>, lifecycle: &Lifecycle) {
    let followed = Arc::downgrade(core);
    let stop = lifecycle.clone();
    lifecycle.supervise("seat change stream", RESTART_DELAY, move || {
        let (core, lifecycle) = (Weak::clone(&followed), stop.clone());
        async move {
            let Some(core) = core.upgrade() else {
                return lifecycle.stopping().await;
            };
            tokio::select! {
                () = lifecycle.stopping() => {}
                () = follow(&core) => {}
            }
        }
    });
}

/// Follows one connection after another, each only while the dataset on it is active.
async fn follow(core: &StoreCore) {
    let mut changes = core.connection.changes();
    loop {
        changes.borrow_and_update();
        if let (Some(epoch), Some(dataset)) = (core.connection.epoch(), core.connection.dataset()) {
            // A connection of its own: a blocking read would delay the calls on the shared one.
            match core.redis.connect_without_timeout(&core.hash_tag).await {
                Ok(connection) if connection.dataset == dataset => {
                    if let Err(error) = follow_connection(core, connection, epoch).await {
                        tracing::debug!(%error, "seat change stream broke off; reconnecting");
                    }
                }
                // The address reaches another server now (failover); the shared connection will notice too.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "seat change stream cannot be reached; trying again");
                }
            }
            tokio::time::sleep(RESTART_DELAY.mul_f64(0.5 + core.entropy.unit())).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Reads until the connection breaks, or until another dataset or epoch is active.
async fn follow_connection(
    core: &StoreCore,
    mut connection: Connection,
    epoch: u64,
) -> Result<(), ReadError> {
    if core
        .feed
        .version()
        .is_none_or(|version| epoch_of(version) != epoch)
    {
        let (version, _) = core.load().await?;
        core.feed.observe_version(version);
    }
    while core.connection.epoch() == Some(epoch)
        && core.connection.dataset().as_ref() == Some(&connection.dataset)
    {
        let entries = read_entries(core, &mut connection).await?;
        if entries.is_empty() {
            continue;
        }
        core.feed.apply_stream(&entries);
        // Reading less often costs the server less; a call that waits for its own change ends the pause.
        tokio::select! {
            () = tokio::time::sleep(READ_INTERVAL) => {}
            () = core.feed.wanted.notified() => {}
        }
    }
    Ok(())
}

async fn read_entries(core: &StoreCore, connection: &mut Connection) -> Result<Vec<StreamId>, ReadError> {
    let mut cmd = redis::cmd("XREAD");
    cmd.arg("COUNT")
        .arg(ENTRIES_MAX)
        .arg("BLOCK")
        .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
    cmd.arg("STREAMS")
        .arg(&core.keys[4])
        .arg(record::entry_id(core.feed.version().unwrap_or_default()));
    let timeout = BLOCK + core.redis.config().command_timeout;
    let reply: Option<StreamReadReply> =
        tokio::time::timeout(timeout, cmd.query_async(&mut connection.multiplexed))
            .await
            .map_err(|_| ReadError::Timeout)??;
    Ok(reply
        .into_iter()
        .flat_map(|reply| reply.keys)
        .flat_map(|key| key.ids)
        .collect())
}
