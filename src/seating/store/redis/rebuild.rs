//! Whether the engine's memory can be trusted, and how it is filled anew from the ledger.

use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::{KEYS, RedisStore, SCRIPTS, SeatStore, StoreError, packed, record};
use crate::{
    kernel::HoldId,
    platform::redis::{Call, CallError, DatasetId, Script},
    seating::{
        hold::RestoredClaim,
        seat::{SeatIx, SeatStates},
    },
};

/// Who fills the memory and is not heard of for so long is taken for dead.
const TOKEN_LIVES: Duration = Duration::from_secs(5);

/// What the server that answers now says of itself and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetStatus {
    /// The server: another, or this one started anew, has another.
    pub identity: String,
    /// The epoch whose data it says are complete.
    pub epoch: Option<u64>,
    /// Whether the data were vouched for on this server, or handed to it by the one on which they were.
    pub is_activated_server: bool,
    /// The epoch under which somebody is filling it now.
    pub rebuilding_epoch: Option<u64>,
}

/// What has come of filling the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildOutcome {
    /// Complete, by this call or another's.
    Ready,
    /// Somebody else is at it.
    Busy,
    /// A later epoch has begun.
    Superseded,
}

impl RedisStore {
    /// Who answers, and for what its data are good. `None` while nobody does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dataset_status(&self) -> Result<Option<DatasetStatus>, StoreError> {
        let Some(DatasetId(identity)) = self.0.line.dataset() else {
            return Ok(None);
        };
        let mut cmd = redis::cmd("MGET");
        cmd.arg(&self.0.keys[7..]);
        let (epoch, home, filling): (Option<u64>, Option<String>, Option<String>) =
            redis::from_redis_value(self.0.line.query(&cmd).await?).map_err(|_| record::unreadable())?;
        // The answer came from whoever was there when it was asked.
        if self.0.line.dataset().is_none_or(|now| now.0 != identity) {
            return Ok(None);
        }
        let is_home = home.as_deref() == Some(&identity);
        let filling = filling.and_then(|it| it.split_once(':')?.0.parse().ok());
        Ok(Some(DatasetStatus {
            identity,
            epoch,
            is_activated_server: is_home,
            rebuilding_epoch: filling,
        }))
    }

    /// The epoch under which calls are answered now.
    #[must_use]
    pub fn active_epoch(&self) -> Option<u64> {
        self.0.line.epoch()
    }

    /// Calls are answered under this epoch from now on, as long as that server answers.
    pub fn activate(&self, epoch: u64, identity: &str) {
        self.0.line.activate(epoch, &DatasetId(identity.to_owned()));
    }

    /// Nothing is answered until somebody vouches again.
    pub fn deactivate(&self) {
        self.0.line.deactivate();
    }

    /// The data were handed to the server that is trusted now: others shall know it too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept_migration(&self, identity: &str) -> Result<(), StoreError> {
        self.0
            .line
            .call(&SCRIPTS.settle, self.0.on(KEYS.len()).arg(identity))
            .await?;
        Ok(())
    }

    /// Changes whenever there may be something new to learn from [`RedisStore::memory`].
    #[must_use]
    pub fn dataset_changes(&self) -> watch::Receiver<u64> {
        self.0.line.changes()
    }

    /// Booked seats that the ledger knows nothing of become free.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn free_unknown_bookings(&self, seats: &[SeatIx]) -> Result<(), StoreError> {
        for id in self.0.holders_of(seats).await? {
            let id = Uuid::from_slice(&id).map_err(|_| record::unreadable())?;
            self.free(HoldId::from_uuid(id), seats).await?;
        }
        Ok(())
    }

    /// Empties the memory and fills it with the claims that `claims` fetches. Only one does so at a time; while it is
    /// done nothing else is answered.
    ///
    /// # Errors
    /// [`StoreError`], also what `claims` says; another call takes over after a while.
    pub async fn rebuild<E>(
        &self,
        epoch: u64,
        identity: &str,
        claims: impl Future<Output = Result<Vec<RestoredClaim>, E>> + Send,
    ) -> Result<RebuildOutcome, E>
    where
        E: From<StoreError>,
    {
        let mut token = [0; 8];
        self.0.entropy.fill(&mut token);
        let token = format!("{:016x}", u64::from_le_bytes(token));
        let lives_ms = u64::try_from(TOKEN_LIVES.as_millis()).unwrap_or(u64::MAX);
        let begin = self
            .0
            .on(KEYS.len())
            .arg(epoch)
            .arg(&token)
            .arg(lives_ms)
            .arg(SeatStates::free(self.0.seats).to_bytes());
        match self.unguarded(&SCRIPTS.rebuild_begin, begin).await? {
            Value::BulkString(word) if word == b"begun" => {}
            Value::BulkString(word) if word == b"done" => return Ok(RebuildOutcome::Ready),
            Value::BulkString(word) if word == b"busy" => return Ok(RebuildOutcome::Busy),
            Value::BulkString(word) if word == b"superseded" => return Ok(RebuildOutcome::Superseded),
            _ => return Err(record::unreadable().into()),
        }
        // Only now, so that nothing is claimed on the word of the old memory that is not among them.
        for part in packed(&claims.await?) {
            let call = self
                .0
                .on(KEYS.len())
                .arg(part)
                .arg(epoch)
                .arg(&token)
                .arg(lives_ms);
            self.unguarded(&SCRIPTS.rebuild_restore, call).await?;
        }
        let end = self
            .0
            .on(KEYS.len())
            .arg(identity)
            .arg(epoch)
            .arg(&token)
            .arg(lives_ms);
        self.unguarded(&SCRIPTS.rebuild_end, end).await?;
        Ok(RebuildOutcome::Ready)
    }

    async fn unguarded(&self, script: &Script, call: Call) -> Result<Value, StoreError> {
        self.0
            .line
            .call_unguarded(script, call)
            .await
            .map_err(|error: CallError| error.into())
    }
}
