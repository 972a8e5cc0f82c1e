//! Public randomness that the service cannot choose: a beacon whose rounds have fixed times.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::waiting_room::draw::digest::Digest;
use crate::{
    kernel::Timestamp,
    platform::drand::{ChainKey, DrandClient},
};

/// Which beacon, and when its rounds are: round 1 at `genesis_at`, and so on every `period_s` seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BeaconChain {
    /// The chain's name among the beacon's: its hash.
    pub chain: String,
    /// When the value of round 1 is published.
    pub genesis_at: Timestamp,
    /// Seconds between two rounds.
    pub period_s: u32,
    /// Under which its rounds are signed.
    pub public_key: ChainKey,
}

impl BeaconChain {
    /// When the value of a round is published.
    #[must_use]
    pub fn round_at(&self, round: u64) -> Timestamp {
        self.genesis_at.plus(Duration::from_secs(
            u64::from(self.period_s).saturating_mul(round.saturating_sub(1)),
        ))
    }

    /// The first round that is not before `at`.
    #[must_use]
    pub fn first_round_from(&self, at: Timestamp) -> u64 {
        let ms = u64::try_from(at.since(self.genesis_at).as_millis()).unwrap_or(u64::MAX);
        1 + ms.div_ceil(u64::from(self.period_s.max(1)) * 1_000)
    }
}

/// A round's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconRound {
    /// The random value.
    pub beacon: Digest,
    /// The chain's, which proves it: `beacon` is its SHA-256.
    pub signature: Vec<u8>,
}

/// The beacon did not return the value; it may be asked again.
#[derive(Debug, thiserror::Error)]
#[error("the beacon did not return round {round}: {why}")]
pub struct BeaconUnavailable {
    /// The round that was asked for.
    pub round: u64,
    /// Error text of the last attempt.
    pub why: String,
}

/// A source of rounds. A past round has one value forever.
#[async_trait]
pub trait Beacon: fmt::Debug + Send + Sync + 'static {
    /// The value of a past round, with its signature.
    ///
    /// # Errors
    /// [`BeaconUnavailable`] when no genuine value was obtained, as for a round in the future.
    async fn round(&self, round: u64) -> Result<BeaconRound, BeaconUnavailable>;
}

#[async_trait]
impl Beacon for DrandClient {
    async fn round(&self, round: u64) -> Result<BeaconRound, BeaconUnavailable> {
        let answer = Self::fetch_round(self, round).await;
        let value = answer.map_err(|error| BeaconUnavailable {
            round,
            why: error.to_string(),
        })?;
        Ok(BeaconRound {
            beacon: Digest(value.randomness),
            signature: value.signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_have_fixed_times() {
        let at = Timestamp::from_secs;
        let public_key = crate::demo::sandbox_beacon::SandboxSigner::of("c").public_key();
        let chain = BeaconChain {
            chain: "c".into(),
            genesis_at: at(1_000),
            period_s: 30,
            public_key,
        };
        assert_eq!((chain.round_at(1), chain.round_at(3)), (at(1_000), at(1_060)));
        for (moment, round) in [
            (at(5), 1),
            (at(1_000), 1),
            (at(1_001), 2),
            (at(1_030), 2),
            (Timestamp::from_millis(1_030_001), 3),
        ] {
            assert_eq!(chain.first_round_from(moment), round, "{moment}");
        }
    }
}
