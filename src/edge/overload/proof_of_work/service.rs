//! The service that joins ask: it sets the difficulty, issues challenges and redeems solutions.

use std::{net::IpAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::{
    edge::overload::{
        client_ip::client_network,
        proof_of_work::{
            challenge::{Challenge, ProofRejection, Solution},
            sliding_count::{SlidingCount, doublings},
            used::{UsedChallenge, UsedChallenges},
        },
        shed::Headroom,
    },
    kernel::{Clock, Entropy, SaleId},
    platform::signing::MacKeys,
};

/// Window over which the joins from all addresses are counted.
const ALL_WINDOW: Duration = Duration::from_secs(4);
/// Window over which the joins from one address are counted.
const ADDRESS_WINDOW: Duration = Duration::from_mins(1);
/// Addresses whose joins are counted, some 60 bytes each. Beyond it the joins from new ones count for all
/// only.
const ADDRESSES_MAX: usize = 500_000;

/// When joins cost work, and how much.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lowest difficulty: `2^bits` is the highest number that may have to be tried. 0 asks for no work under
    /// normal load.
    pub difficulty_bits_min: u8,
    /// Highest difficulty; 0 turns proof of work off.
    pub difficulty_bits_max: u8,
    /// Joins per second from all addresses beyond which the difficulty rises.
    pub joins_per_second_normal: u32,
    /// Joins per minute from one address beyond which the difficulty rises for it.
    pub joins_per_ip_per_minute_normal: u32,
    /// How long a challenge can be used.
    pub challenge_ttl: Duration,
    /// Used challenges that are remembered at most.
    pub used_challenges_max: usize,
    /// Whether an address beyond its rate limit of joins may still join at the highest difficulty.
    pub allow_over_join_limit: bool,
}

/// Issues challenges and verifies solutions.
pub struct ProofOfWork {
    config: Config,
    keys: MacKeys,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    all: Mutex<SlidingCount>,
    addresses: DashMap<IpAddr, SlidingCount>,
    used: Mutex<UsedChallenges>,
}

impl ProofOfWork {
    /// `keys` sign the challenges of all nodes.
    pub fn new(config: Config, keys: MacKeys, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            config,
            keys,
            clock,
            entropy,
            all: Mutex::default(),
            addresses: DashMap::new(),
            used: Mutex::default(),
        }
    }

    /// Whether a join can ever cost work.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.config.difficulty_bits_max > 0
    }

    /// Whether an address beyond its rate limit of joins may still join at the highest difficulty.
    #[must_use]
    pub fn allow_over_join_limit(&self) -> bool {
        self.config.allow_over_join_limit
    }

    /// The highest difficulty.
    #[must_use]
    pub fn difficulty_bits_max(&self) -> u8 {
        self.config.difficulty_bits_max
    }

    /// The difficulty of a join from this address now, as a power of two; 0 asks for no work.
    #[must_use]
    pub fn bits(&self, address: Option<IpAddr>, headroom: Headroom) -> u8 {
        let now = self.clock.monotonic();
        let per_window = u64::from(self.config.joins_per_second_normal) * ALL_WINDOW.as_secs();
        let load_bits = doublings(self.all.lock().count(now, ALL_WINDOW), per_window)
            + doublings(headroom.limit as u64, headroom.free.max(1) as u64);
        self.clamp(load_bits.saturating_add(self.ip_bits(address)))
    }

    /// The lowest difficulty accepted from this address: one doubling below what the address is asked now,
    /// since its challenge may be a moment old. The overall load, which is not its doing, may have grown by
    /// more since.
    #[must_use]
    pub fn accepted_bits_min(&self, address: Option<IpAddr>) -> u8 {
        self.clamp(self.ip_bits(address).saturating_sub(1))
    }

    /// A new challenge for this sale at this difficulty.
    #[must_use]
    pub fn challenge(&self, sale: &SaleId, bits: u8) -> Challenge {
        let expires_at_s = self.clock.now().plus(self.config.challenge_ttl).as_secs();
        Challenge::issue(sale, bits, expires_at_s, &self.keys, self.entropy.as_ref())
    }

    /// Uses up a solution for this sale of at least the given difficulty.
    ///
    /// # Errors
    /// Why the solution is not accepted.
    pub fn redeem(
        &self,
        sale: &SaleId,
        solution: &Solution,
        least_bits: u8,
    ) -> Result<UsedChallenge, ProofRejection> {
        let salt = solution.verify(sale, &self.keys).ok_or(ProofRejection::Wrong)?;
        // Also one that would live too long: the clock was set back since, and what was used then may be
        // forgotten.
        let now = self.clock.now();
        if salt.expires_at_s <= now.as_secs()
            || salt.expires_at_s > now.plus(self.config.challenge_ttl).as_secs()
        {
            return Err(ProofRejection::Expired);
        }
        if salt.bits < least_bits {
            return Err(ProofRejection::TooEasy);
        }
        let id = solution.id().ok_or(ProofRejection::Wrong)?;
        let used = UsedChallenge {
            id,
            expires_at_s: salt.expires_at_s,
        };
        self.used
            .lock()
            .add(
                &used,
                now,
                self.config.challenge_ttl,
                self.config.used_challenges_max,
            )
            .map(|()| used)
    }

    /// Makes a challenge usable again, since it bought nothing.
    pub fn release(&self, used: &UsedChallenge) {
        self.used.lock().remove(used, self.config.challenge_ttl);
    }

    /// Counts a join from this address, if proof of work is enabled.
    pub fn record_join(&self, address: Option<IpAddr>) {
        if !self.is_enabled() {
            return;
        }
        let now = self.clock.monotonic();
        self.all.lock().add(now, ALL_WINDOW);
        let Some(address) = address.map(client_network) else {
            return;
        };
        match self.addresses.entry(address) {
            dashmap::Entry::Occupied(mut known) => known.get_mut().add(now, ADDRESS_WINDOW),
            dashmap::Entry::Vacant(vacant) => {
                // Released first: `len` locks every shard of the map.
                drop(vacant);
                if self.addresses.len() < ADDRESSES_MAX {
                    self.addresses
                        .entry(address)
                        .or_default()
                        .add(now, ADDRESS_WINDOW);
                }
            }
        }
    }

    /// Drops the addresses without recent joins, and the used challenges that have expired. To be called now
    /// and then.
    pub fn remove_expired(&self) {
        let now = self.clock.monotonic();
        self.addresses
            .retain(|_, joins| joins.count(now, ADDRESS_WINDOW) > 0);
        self.used
            .lock()
            .advance(self.clock.now(), self.config.challenge_ttl);
    }

    fn clamp(&self, added_bits: u8) -> u8 {
        self.config
            .difficulty_bits_min
            .saturating_add(added_bits)
            .min(self.config.difficulty_bits_max)
    }

    fn ip_bits(&self, address: Option<IpAddr>) -> u8 {
        let now = self.clock.monotonic();
        let joins = address.and_then(|address| {
            Some(
                self.addresses
                    .get(&client_network(address))?
                    .count(now, ADDRESS_WINDOW),
            )
        });
        doublings(
            joins.unwrap_or(0),
            self.config.joins_per_ip_per_minute_normal.into(),
        )
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
