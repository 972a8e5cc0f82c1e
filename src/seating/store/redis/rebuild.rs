//! Whether the dataset on the server can be trusted, and how it is rebuilt from the ledger.

use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    kernel::HoldId,
    platform::redis::{Call, DatasetId, Script},
    seating::{
        hold::RestoredClaim,
        seat::{SeatIx, SeatStates},
        store::{
            port::SeatStore,
            redis::{
                core::{DATASET_KEYS_FROM, KEYS},
                reply::unreadable,
                scripts::SCRIPTS,
                store::{RedisStore, restore_batches},
            },
        },
        types::StoreError,
    },
};

/// A node that rebuilds and is silent for so long is taken for dead; another one takes over.
const REBUILD_TOKEN_TTL: Duration = Duration::from_secs(5);

/// What the server that is connected now says of itself and of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetStatus {
    /// Identifies the server and its data: another server, or this one after a restart, has another id.
    pub dataset_id: String,
    /// The epoch whose data are complete, if any.
    pub epoch: Option<u64>,
    /// Whether the data were activated as this dataset, or handed over to it whole.
    pub is_activated_dataset: bool,
    /// The epoch for which a node is rebuilding the data now.
    pub rebuilding_epoch: Option<u64>,
}

/// Outcome of [`RedisStore::rebuild`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildOutcome {
    /// The data are complete for this epoch, by this call or another node's.
    Ready,
    /// Another node is rebuilding for this epoch.
    Busy,
    /// A later epoch has begun.
    Superseded,
}

impl RedisStore {
    /// Which dataset is connected, and what its data are good for. `None` while no server is connected.
    ///
    /// # Errors
    /// When the server did not answer.
    pub async fn dataset_status(&self) -> Result<Option<DatasetStatus>, StoreError> {
        let Some(DatasetId(dataset_id)) = self.core.connection.dataset() else {
            return Ok(None);
        };
        let mut cmd = redis::cmd("MGET");
        cmd.arg(&self.core.keys[DATASET_KEYS_FROM..]);
        let (epoch, activated, rebuild): (Option<u64>, Option<String>, Option<String>) =
            redis::from_redis_value(self.core.connection.query(&cmd).await?).map_err(|_| unreadable())?;
        // The server may have changed while the query was under way: then the reply says nothing of this
        // dataset.
        if self
            .core
            .connection
            .dataset()
            .is_none_or(|now| now.0 != dataset_id)
        {
            return Ok(None);
        }
        Ok(Some(DatasetStatus {
            epoch,
            is_activated_dataset: activated.as_deref() == Some(&dataset_id),
            rebuilding_epoch: rebuild.and_then(|token| token.split_once(':')?.0.parse().ok()),
            dataset_id,
        }))
    }

    /// The epoch under which calls are answered now.
    #[must_use]
    pub fn active_epoch(&self) -> Option<u64> {
        self.core.connection.epoch()
    }

    /// Answers calls under this epoch from now on, as long as this dataset is connected.
    pub fn activate(&self, epoch: u64, dataset_id: &str) {
        self.core
            .connection
            .activate(epoch, &DatasetId(dataset_id.to_owned()));
    }

    /// Answers no calls until the next [`RedisStore::activate`].
    pub fn deactivate(&self) {
        self.core.connection.deactivate();
    }

    /// Records that the data were handed over whole to the dataset that is active now (a migrated cluster
    /// slot), so that other nodes trust it too.
    ///
    /// # Errors
    /// When the server did not answer.
    pub async fn accept_migration(&self, dataset_id: &str) -> Result<(), StoreError> {
        let call = self.core.call_with_keys(KEYS.len()).arg(dataset_id);
        self.core.run(&SCRIPTS.accept_migration, call).await?;
        Ok(())
    }

    /// Changes whenever [`RedisStore::dataset_status`] may have something new.
    #[must_use]
    pub fn dataset_changes(&self) -> watch::Receiver<u64> {
        self.core.connection.changes()
    }

    /// Frees booked seats that the ledger does not know, whichever hold has them.
    ///
    /// # Errors
    /// When the server did not answer.
    pub async fn free_unknown_bookings(&self, seats: &[SeatIx]) -> Result<(), StoreError> {
        for id in self.core.find_holds_of(seats).await? {
            let id = Uuid::from_slice(&id).map_err(|_| unreadable())?;
            self.free(HoldId::from_uuid(id), seats).await?;
        }
        Ok(())
    }

    /// Empties the dataset and fills it with the claims that `claims` fetches.
    ///
    /// Only one node does so at a time; other calls fail meanwhile.
    ///
    /// # Errors
    /// When the server did not answer, or `claims` failed. Another call can take over after five seconds.
    pub async fn rebuild<E>(
        &self,
        epoch: u64,
        dataset_id: &str,
        claims: impl Future<Output = Result<Vec<RestoredClaim>, E>> + Send,
    ) -> Result<RebuildOutcome, E>
    where
        E: From<StoreError>,
    {
        let mut token = [0; 8];
        self.core.entropy.fill(&mut token);
        let token = format!("{:016x}", u64::from_le_bytes(token));
        let ttl_ms = u64::try_from(REBUILD_TOKEN_TTL.as_millis()).unwrap_or(u64::MAX);
        let begin = self
            .core
            .call_with_keys(KEYS.len())
            .arg(epoch)
            .arg(&token)
            .arg(ttl_ms)
            .arg(SeatStates::free(self.core.seat_count).to_bytes());
        match self.run_unguarded(&SCRIPTS.rebuild_begin, begin).await? {
            Value::BulkString(word) if word == b"begun" => {}
            Value::BulkString(word) if word == b"done" => return Ok(RebuildOutcome::Ready),
            Value::BulkString(word) if word == b"busy" => return Ok(RebuildOutcome::Busy),
            Value::BulkString(word) if word == b"superseded" => return Ok(RebuildOutcome::Superseded),
            _ => return Err(unreadable().into()),
        }
        // Only now that the old data are gone: a claim made on the strength of the old data must be among
        // these.
        for batch in restore_batches(&claims.await?) {
            let call = self
                .core
                .call_with_keys(KEYS.len())
                .arg(batch)
                .arg(epoch)
                .arg(&token)
                .arg(ttl_ms);
            self.run_unguarded(&SCRIPTS.rebuild_restore, call).await?;
        }
        let end = self
            .core
            .call_with_keys(KEYS.len())
            .arg(dataset_id)
            .arg(epoch)
            .arg(&token)
            .arg(ttl_ms);
        self.run_unguarded(&SCRIPTS.rebuild_end, end).await?;
        Ok(RebuildOutcome::Ready)
    }

    async fn run_unguarded(&self, script: &Script, call: Call) -> Result<Value, StoreError> {
        Ok(self.core.connection.call_unguarded(script, call).await?)
    }
}
