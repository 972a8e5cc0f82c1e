//! Used tokens, and the port to where they are recorded.

use std::path::PathBuf;

use async_trait::async_trait;
use uuid::Uuid;

use crate::kernel::Timestamp;

/// Where used tokens are recorded.
#[derive(Clone)]
pub enum ReplayGuardLocation {
    /// An SQLite file, shared by the processes of one data directory.
    File(PathBuf),
    /// A PostgreSQL database, shared by all nodes.
    Postgres {
        /// The database's URL.
        url: String,
    },
}

/// A token that must not be accepted again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UsedToken {
    /// A signed-out session, by its id.
    Session(Uuid),
    /// A used hand-off, by its `jti`.
    Handoff(String),
    /// A used code or state of this service, by its id.
    OneTime(Uuid),
}

/// Stored values of the column `kind`.
const SESSION: i16 = 1;
const HANDOFF: i16 = 2;
const ONE_TIME: i16 = 3;

impl UsedToken {
    pub(super) fn kind(&self) -> i16 {
        match self {
            Self::Session(_) => SESSION,
            Self::Handoff(_) => HANDOFF,
            Self::OneTime(_) => ONE_TIME,
        }
    }

    pub(super) fn id(&self) -> &[u8] {
        match self {
            Self::Session(id) | Self::OneTime(id) => id.as_bytes(),
            Self::Handoff(jti) => jti.as_bytes(),
        }
    }

    pub(super) fn from_stored(kind: i16, id: Vec<u8>) -> Option<Self> {
        match kind {
            SESSION => Uuid::from_slice(&id).ok().map(Self::Session),
            HANDOFF => String::from_utf8(id).ok().map(Self::Handoff),
            ONE_TIME => Uuid::from_slice(&id).ok().map(Self::OneTime),
            _ => None,
        }
    }
}

/// Records used tokens, each until its token has expired anyway.
#[async_trait]
pub(super) trait UsedTokenStore: Send + Sync + 'static {
    /// Records all or none; returns for each whether it was unused before. A repeated call must not be
    /// mistaken for a second use.
    async fn record(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error>;
    /// Whether a token is recorded, by whichever process.
    async fn contains(&self, token: &UsedToken) -> Result<bool, sqlx::Error>;
    /// The tokens that must be known in memory: at least signed-out sessions.
    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error>;
    /// Of those, at least the ones that other processes have recorded since the last read.
    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error>;
    /// Deletes expired tokens.
    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error>;
}
