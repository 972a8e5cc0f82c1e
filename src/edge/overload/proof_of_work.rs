//! Proof of work, for sales that ask nobody who she is: a fan's browser computes for a moment once, a robot that joins a
//! thousand times a thousand times.
//!
//! A challenge has ALTCHA's form: `challenge` is the SHA-256 of `salt` and a number that only this house knew, at most
//! `maxnumber`; whoever joins finds it by trying. Nothing is kept about challenges that are out: `signature` says that
//! one is ours, and the salt says for which sale, until when and at which cost. Checking one costs one MAC and one hash.
//!
//! ```text
//! 0123456789abcdef01234567?expires=1795464000&sale=hero-seoul-2027&bits=16&key=1&
//! ```
//! The last `&` keeps salt and number apart: without it digits could wander from the one to the other and make a later
//! end of a challenge that was answered already.
//!
//! The cost is a power of two between the configured floor and ceiling. It doubles with each doubling of the joins beyond
//! what is normal, with each halving of what this node has left for requests, and with each doubling of the joins that
//! the same address (an IPv6 /64 counts as one) made beyond what is normal for one.
//!
//! A challenge counts once: those answered are remembered until they end, by each node for itself. So one proof may buy
//! one place at each node: with four nodes a robot pays at least a quarter of the price, and never more than the nodes
//! are many.

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::connection::acceptor::client_network;
use crate::{
    kernel::{Clock, Entropy, SaleId, Timestamp},
    platform::signing::{MacKeys, from_hex, hex, sha256},
};

/// More would keep a phone busy for minutes.
pub const BITS_MAX: u8 = 24;

const ALGORITHM: &str = "SHA-256";
const RANDOM_LEN: usize = 12;
/// A salt names a sale of at most 64 characters; nothing that is longer is ours.
const SALT_LEN_MAX: usize = 160;
const DIGEST_HEX_LEN: usize = 64;
/// Over which the joins of all addresses are counted.
const ALL_WINDOW: Duration = Duration::from_secs(4);
/// Over which those of one address are counted.
const ADDRESS_WINDOW: Duration = Duration::from_mins(1);
/// Addresses whose joins are counted, some 60 bytes each; beyond it new ones pay the common price.
const ADDRESSES_MAX: usize = 500_000;

/// What a join may cost, and when.
#[derive(Clone, Debug)]
pub struct Config {
    /// The floor: `2^bits` is the highest number that may have to be tried. 0 asks for nothing while all is calm.
    pub difficulty_bits_min: u8,
    /// The ceiling; 0 never asks for anything.
    pub bits_max: u8,
    pub joins_per_second_normal: u32,
    pub joins_per_ip_per_minute_normal: u32,
    /// How long a challenge may be answered.
    pub challenge_ttl: Duration,
    /// Answered challenges that are remembered at most.
    pub used_challenges_max: usize,
    /// Whether an address beyond its limit of joins may go on at the ceiling's price.
    pub lifts_join_limit: bool,
}

/// A challenge as ALTCHA's clients know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are ALTCHA's")]
pub struct Challenge {
    /// `SHA-256`
    #[schema(value_type = String)]
    algorithm: &'static str,
    /// The SHA-256 of salt and number, in hexadecimal digits.
    challenge: String,
    /// The number is not higher.
    maxnumber: u32,
    salt: String,
    signature: String,
}

/// A challenge with its number.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Solution {
    algorithm: String,
    challenge: String,
    number: u32,
    salt: String,
    signature: String,
}

/// An answered challenge that counts no more.
#[derive(Debug)]
pub struct UsedChallenge {
    name: u64,
    expires_at_s: i64,
}

/// Why a solution does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofRejection {
    /// Not ours, of another sale, or not the number.
    Wrong,
    Expired,
    /// It has bought a place already.
    Spent,
    /// From here it takes more.
    TooCheap,
    /// As many as can be remembered were answered of late.
    TooMany,
}

impl ProofRejection {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::Spent => "spent",
            Self::TooCheap => "too_cheap",
            Self::TooMany => "too_many",
        }
    }
}

/// How much of what a node has for requests is in use.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    pub left: usize,
    pub of: usize,
}

/// Makes challenges and checks their solutions.
pub struct ProofOfWork {
    config: Config,
    keys: MacKeys,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    all: Mutex<Lately>,
    addresses: DashMap<IpAddr, Lately>,
    spent: Mutex<SpentLately>,
}

impl ProofOfWork {
    pub fn new(config: Config, keys: MacKeys, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            config,
            keys,
            clock,
            entropy,
            all: Mutex::default(),
            addresses: DashMap::new(),
            spent: Mutex::default(),
        }
    }

    /// Whether a join may ever cost something.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.config.bits_max > 0
    }

    #[must_use]
    pub fn allow_over_join_limit(&self) -> bool {
        self.config.lifts_join_limit
    }

    /// The ceiling.
    #[must_use]
    pub fn difficulty_bits_max(&self) -> u8 {
        self.config.bits_max
    }

    /// What a join from this address costs now.
    #[must_use]
    pub fn bits(&self, address: Option<IpAddr>, in_use: Headroom) -> u8 {
        let now = self.clock.monotonic();
        let per_window = u64::from(self.config.joins_per_second_normal) * ALL_WINDOW.as_secs();
        let crush = doublings(self.all.lock().count(now, ALL_WINDOW), per_window)
            + doublings(in_use.of as u64, in_use.left.max(1) as u64);
        self.between(crush.saturating_add(self.own_bits(address)))
    }

    /// The least that a solution from this address must have cost: one doubling less than asked now, since she may have
    /// been asked a moment ago; the crush, which is not hers, may have grown by more meanwhile.
    #[must_use]
    pub fn accepted_bits_min(&self, address: Option<IpAddr>) -> u8 {
        self.between(self.own_bits(address).saturating_sub(1))
    }

    /// A challenge of this sale at this cost.
    #[must_use]
    pub fn challenge(&self, sale: &SaleId, bits: u8) -> Challenge {
        let mut random = [0; RANDOM_LEN];
        self.entropy.fill(&mut random);
        let kid = self.keys.current();
        let expires_at_s = self.clock.now().plus(self.config.challenge_ttl).as_secs();
        let salt = Salt {
            expires_at_s,
            sale: sale.as_str(),
            bits,
            kid,
        }
        .to_text(&hex(&random));
        let maxnumber = 1_u32 << bits.min(BITS_MAX);
        let number =
            u32::try_from(self.entropy.below(u64::from(maxnumber) + 1)).expect("not above maxnumber");
        let challenge = hex(&sha256(format!("{salt}{number}").as_bytes()));
        let signature = hex(&self
            .keys
            .tag(kid, challenge.as_bytes())
            .expect("the current key is one of the keys"));
        Challenge {
            algorithm: ALGORITHM,
            challenge,
            maxnumber,
            salt,
            signature,
        }
    }

    /// Takes a solution of this sale that cost at least `2^least_bits`; it counts no second time.
    pub fn redeem(&self, sale: &SaleId, solution: &Solution, least_bits: u8) -> Result<UsedChallenge, ProofRejection> {
        let salt = Salt::from_text(&solution.salt).ok_or(ProofRejection::Wrong)?;
        let is_ours = solution.algorithm == ALGORITHM
            && salt.sale == sale.as_str()
            && solution.challenge.len() == DIGEST_HEX_LEN
            && from_hex(&solution.signature)
                .is_some_and(|tag| self.keys.verify(salt.kid, solution.challenge.as_bytes(), &tag));
        if !is_ours
            || hex(&sha256(
                format!("{}{}", solution.salt, solution.number).as_bytes(),
            )) != solution.challenge
        {
            return Err(ProofRejection::Wrong);
        }
        // Also one that would live too long: the clock was set back since, and what was answered then is forgotten.
        let now = self.clock.now();
        if salt.expires_at_s <= now.as_secs() || salt.expires_at_s > now.plus(self.config.challenge_ttl).as_secs() {
            return Err(ProofRejection::Expired);
        }
        if salt.bits < least_bits {
            return Err(ProofRejection::TooCheap);
        }
        let name = solution
            .challenge
            .get(..16)
            .and_then(|first| u64::from_str_radix(first, 16).ok())
            .ok_or(ProofRejection::Wrong)?;
        let spent = UsedChallenge {
            name,
            expires_at_s: salt.expires_at_s,
        };
        self.spent
            .lock()
            .add(&spent, now, self.config.challenge_ttl, self.config.used_challenges_max)
            .map(|()| spent)
    }

    /// It bought nothing, so it may be used once more.
    pub fn release(&self, spent: &UsedChallenge) {
        self.spent.lock().remove(spent, self.config.challenge_ttl);
    }

    /// Somebody joined from this address. Nothing is counted where no work is ever asked.
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
            dashmap::Entry::Vacant(place) => {
                // The entry is let go first: counting them looks into every part of the map.
                drop(place);
                if self.addresses.len() < ADDRESSES_MAX {
                    self.addresses
                        .entry(address)
                        .or_default()
                        .add(now, ADDRESS_WINDOW);
                }
            }
        }
    }

    /// Forgets the addresses from which nobody joined of late, and answered challenges that have ended.
    pub fn remove_expired(&self) {
        let now = self.clock.monotonic();
        self.addresses
            .retain(|_, joins| joins.count(now, ADDRESS_WINDOW) > 0);
        self.spent.lock().advance(self.clock.now(), self.config.challenge_ttl);
    }

    fn between(&self, more: u8) -> u8 {
        self.config
            .difficulty_bits_min
            .saturating_add(more)
            .min(self.config.bits_max)
    }

    fn own_bits(&self, address: Option<IpAddr>) -> u8 {
        let now = self.clock.monotonic();
        let joins = address
            .and_then(|address| Some(self.addresses.get(&client_network(address))?.count(now, ADDRESS_WINDOW)));
        doublings(
            joins.unwrap_or(0),
            self.config.joins_per_ip_per_minute_normal.into(),
        )
    }
}

/// How often `normal` can be doubled without exceeding `count`.
fn doublings(count: u64, normal: u64) -> u8 {
    let times = count
        .checked_div(normal)
        .and_then(u64::checked_ilog2)
        .unwrap_or(0);
    u8::try_from(times).expect("64 bits are doubled 63 times")
}

/// What a salt says.
struct Salt<'a> {
    expires_at_s: i64,
    sale: &'a str,
    bits: u8,
    kid: u8,
}

impl<'a> Salt<'a> {
    fn to_text(&self, random: &str) -> String {
        let Self {
            expires_at_s,
            sale,
            bits,
            kid,
        } = self;
        format!("{random}?expires={expires_at_s}&sale={sale}&bits={bits}&key={kid}&")
    }

    /// Read in one way only: the text that it says again is the text that was read.
    fn from_text(text: &'a str) -> Option<Self> {
        if text.len() > SALT_LEN_MAX {
            return None;
        }
        let (random, facts) = text.split_once('?')?;
        let (expires, rest) = facts.strip_prefix("expires=")?.split_once("&sale=")?;
        let (sale, rest) = rest.split_once("&bits=")?;
        let (bits, rest) = rest.split_once("&key=")?;
        let salt = Self {
            expires_at_s: expires.parse().ok()?,
            sale,
            bits: bits.parse().ok()?,
            kid: rest.strip_suffix('&')?.parse().ok()?,
        };
        (salt.bits <= BITS_MAX && salt.to_text(random) == text).then_some(salt)
    }
}

/// About how many there were in the last window: those of this one, and of the one before its share.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    window: u64,
    now: u32,
    before: u32,
}

impl Lately {
    fn add(&mut self, at: Duration, window: Duration) {
        self.advance(at, window);
        self.now = self.now.saturating_add(1);
    }

    fn count(&self, at: Duration, window: Duration) -> u64 {
        let mut then = *self;
        then.advance(at, window);
        let (whole, into) = (millis(window), millis(at) % millis(window));
        u64::from(then.now) + u64::from(then.before) * (whole - into) / whole
    }

    fn advance(&mut self, at: Duration, window: Duration) {
        let number = millis(at) / millis(window);
        match number.saturating_sub(self.window) {
            0 => {}
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.window = self.window.max(number);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Answered challenges by when they end, in windows as long as a challenge's life: a live one ends in this window or in
/// the next, so what is older is dropped as a whole.
#[derive(Debug, Default)]
struct SpentLately {
    window: i64,
    this: HashSet<u64>,
    next: HashSet<u64>,
}

impl SpentLately {
    fn add(
        &mut self,
        spent: &UsedChallenge,
        now: Timestamp,
        life: Duration,
        at_most: usize,
    ) -> Result<(), ProofRejection> {
        self.advance(now, life);
        if self.set_of(spent, life).contains(&spent.name) {
            return Err(ProofRejection::Spent);
        }
        if self.this.len() + self.next.len() >= at_most {
            return Err(ProofRejection::TooMany);
        }
        self.set_of(spent, life).insert(spent.name);
        Ok(())
    }

    fn remove(&mut self, spent: &UsedChallenge, life: Duration) {
        self.set_of(spent, life).remove(&spent.name);
    }

    fn set_of(&mut self, spent: &UsedChallenge, life: Duration) -> &mut HashSet<u64> {
        if window_of(spent.expires_at_s, life) > self.window {
            &mut self.next
        } else {
            &mut self.this
        }
    }

    fn advance(&mut self, now: Timestamp, life: Duration) {
        let number = window_of(now.as_secs(), life);
        match number.saturating_sub(self.window) {
            ..=0 => return,
            1 => self.this = std::mem::take(&mut self.next),
            _ => (self.this, self.next) = (HashSet::new(), HashSet::new()),
        }
        self.window = number;
    }
}

fn window_of(at_s: i64, life: Duration) -> i64 {
    at_s.div_euclid(i64::try_from(life.as_secs()).unwrap_or(i64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{ManualClock, SeededEntropy};

    const CALM: Headroom = Headroom {
        left: 1_000,
        of: 1_000,
    };

    fn config() -> Config {
        Config {
            difficulty_bits_min: 6,
            bits_max: 12,
            joins_per_second_normal: 10,
            joins_per_ip_per_minute_normal: 4,
            challenge_ttl: Duration::from_mins(1),
            used_challenges_max: 1_000,
            lifts_join_limit: false,
        }
    }

    fn desk(config: Config) -> (ProofOfWork, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let keys = MacKeys::new(&BTreeMap::from([(1, [1; 32])]));
        (
            ProofOfWork::new(
                config,
                keys,
                Arc::clone(&clock) as _,
                Arc::new(SeededEntropy::new(1)),
            ),
            clock,
        )
    }

    fn sale(name: &str) -> SaleId {
        name.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// As a browser finds it.
    fn solve(challenge: &Challenge) -> Solution {
        let number = (0..=challenge.maxnumber)
            .find(|number| {
                hex(&sha256(format!("{}{number}", challenge.salt).as_bytes())) == challenge.challenge
            })
            .expect("one of them is it");
        let Challenge {
            challenge,
            salt,
            signature,
            ..
        } = challenge.clone();
        Solution {
            algorithm: "SHA-256".into(),
            challenge,
            number,
            salt,
            signature,
        }
    }

    #[test]
    fn a_challenge_counts_once_for_its_sale_until_it_ends() {
        let (desk, clock) = desk(config());
        let solved = |bits| solve(&desk.challenge(&sale("a"), bits));
        let one = solved(6);
        assert_eq!(desk.redeem(&sale("b"), &one, 6).unwrap_err(), ProofRejection::Wrong);
        assert_eq!(desk.redeem(&sale("a"), &one, 7).unwrap_err(), ProofRejection::TooCheap);
        let spent = desk.redeem(&sale("a"), &one, 6).unwrap();
        assert_eq!(desk.redeem(&sale("a"), &one, 6).unwrap_err(), ProofRejection::Spent);
        desk.release(&spent);
        assert!(
            desk.redeem(&sale("a"), &one, 6).is_ok(),
            "what bought nothing buys once more"
        );
        let late = solved(6);
        clock.advance(Duration::from_secs(59));
        assert_eq!(
            desk.redeem(&sale("a"), &one, 6).unwrap_err(),
            ProofRejection::Spent,
            "as long as it lives"
        );
        clock.advance(Duration::from_secs(1));
        assert_eq!(desk.redeem(&sale("a"), &late, 6).unwrap_err(), ProofRejection::Expired);
        assert_eq!(desk.redeem(&sale("a"), &one, 6).unwrap_err(), ProofRejection::Expired);
    }

    #[test]
    fn a_clock_set_back_makes_nothing_live_longer() {
        let (desk, clock) = desk(config());
        let one = solve(&desk.challenge(&sale("a"), 6));
        clock.step_to(Timestamp::from_secs(1_800_000_000 - 3_600));
        assert_eq!(desk.redeem(&sale("a"), &one, 6).unwrap_err(), ProofRejection::Expired);
    }

    #[test]
    fn a_salt_and_a_number_cannot_be_parted_anew() {
        let (desk, clock) = desk(config());
        let one = (0..100)
            .map(|_| solve(&desk.challenge(&sale("a"), 12)))
            .find(|it| it.number > 99)
            .unwrap();
        desk.redeem(&sale("a"), &one, 0).unwrap();
        let digits = one.number.to_string();
        for at in 1..digits.len() {
            let parted = Solution {
                salt: format!("{}{}", one.salt, &digits[..at]),
                number: digits[at..].parse().unwrap(),
                ..one.clone()
            };
            assert_eq!(desk.redeem(&sale("a"), &parted, 0).unwrap_err(), ProofRejection::Wrong);
        }
        for (from, to) in [
            ("expires=1", "expires=01"),
            ("bits=12", "bits=+12"),
            ("key=1", "key=2"),
            ("sale=a", "sale=b"),
            ("expires=18", "expires=19"),
        ] {
            let changed = Solution {
                salt: one.salt.replace(from, to),
                ..one.clone()
            };
            assert_ne!(changed.salt, one.salt);
            assert_eq!(
                desk.redeem(&sale("a"), &changed, 0).unwrap_err(),
                ProofRejection::Wrong,
                "{to}"
            );
        }
        clock.advance(Duration::from_mins(2));
        assert_eq!(desk.redeem(&sale("a"), &one, 0).unwrap_err(), ProofRejection::Expired);
    }

    #[test]
    fn who_signs_with_another_key_or_guesses_gets_nothing() {
        let (desk, _) = desk(config());
        let other = MacKeys::new(&BTreeMap::from([(1, [2; 32])]));
        let forger = ProofOfWork::new(
            config(),
            other,
            Arc::clone(&desk.clock),
            Arc::new(SeededEntropy::new(2)),
        );
        assert_eq!(
            desk.redeem(&sale("a"), &solve(&forger.challenge(&sale("a"), 6)), 6)
                .unwrap_err(),
            ProofRejection::Wrong
        );
        let good = solve(&desk.challenge(&sale("a"), 6));
        for bad in [
            Solution {
                number: good.number ^ 1,
                ..good.clone()
            },
            Solution {
                algorithm: "SHA-1".into(),
                ..good.clone()
            },
            Solution {
                signature: String::new(),
                ..good.clone()
            },
            Solution {
                signature: "é".repeat(16),
                ..good.clone()
            },
            Solution {
                challenge: good.challenge.to_uppercase(),
                ..good.clone()
            },
            Solution {
                salt: "s".repeat(10_000),
                ..good.clone()
            },
        ] {
            assert_eq!(
                desk.redeem(&sale("a"), &bad, 6).unwrap_err(),
                ProofRejection::Wrong,
                "{bad:?}"
            );
        }
        assert!(desk.redeem(&sale("a"), &good, 6).is_ok());
    }

    #[test]
    fn the_price_follows_the_crush_between_floor_and_ceiling() {
        let (desk, clock) = desk(config());
        assert_eq!(desk.bits(None, CALM), 6);
        assert_eq!(
            desk.bits(None, Headroom { left: 500, of: 1_000 }),
            7,
            "half of the room is in use"
        );
        assert_eq!(desk.bits(None, Headroom { left: 125, of: 1_000 }), 9);
        assert_eq!(
            desk.bits(None, Headroom { left: 0, of: 1_000 }),
            12,
            "never above the ceiling"
        );
        (0..160).for_each(|_| desk.record_join(None));
        assert_eq!(desk.bits(None, CALM), 8, "four times the normal number");
        assert_eq!(desk.accepted_bits_min(None), 6, "the crush is nobody's own");
        clock.advance(Duration::from_secs(8));
        assert_eq!(desk.bits(None, CALM), 6);
    }

    #[test]
    fn an_address_pays_for_its_own_joins_and_a_household_is_one() {
        let (desk, clock) = desk(Config {
            joins_per_second_normal: 1_000,
            ..config()
        });
        (0..16).for_each(|_| desk.record_join(Some(address("2001:db8::1"))));
        assert_eq!(desk.bits(Some(address("2001:db8::2")), CALM), 8);
        assert_eq!(desk.accepted_bits_min(Some(address("2001:db8::2"))), 7);
        assert_eq!(desk.bits(Some(address("2001:db8:0:1::2")), CALM), 6);
        clock.advance(Duration::from_mins(2));
        assert_eq!(desk.bits(Some(address("2001:db8::2")), CALM), 6);
        desk.remove_expired();
        assert!(desk.addresses.is_empty());
    }

    #[test]
    fn nothing_is_asked_where_the_ceiling_is_zero() {
        let (desk, _) = desk(Config {
            difficulty_bits_min: 0,
            bits_max: 0,
            ..config()
        });
        (0..1_000).for_each(|_| desk.record_join(None));
        assert!(!desk.is_enabled());
        assert_eq!(desk.bits(None, Headroom { left: 0, of: 9 }), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let (desk, clock) = desk(Config {
            used_challenges_max: 3,
            ..config()
        });
        let spend = || {
            desk.redeem(&sale("a"), &solve(&desk.challenge(&sale("a"), 1)), 0)
                .map(|_| ())
        };
        assert!((0..3).all(|_| spend().is_ok()));
        assert_eq!(spend(), Err(ProofRejection::TooMany));
        clock.advance(Duration::from_mins(2));
        desk.remove_expired();
        let spent = desk.spent.lock();
        assert!(spent.this.is_empty() && spent.next.is_empty());
    }

    proptest! {
        #[test]
        fn no_salt_is_too_odd_to_be_refused(text in ".{0,200}") {
            prop_assert!(Salt::from_text(&text).is_none());
        }

        #[test]
        fn of_joins_in_a_minute_half_at_least_are_counted(each_ms in 1_u64..1_000, from_ms in 0_u64..120_000) {
            let mut lately = Lately::default();
            let joins = 60_000 / each_ms;
            for n in 0..joins {
                lately.add(Duration::from_millis(from_ms + n * each_ms), ADDRESS_WINDOW);
            }
            let count = lately.count(Duration::from_millis(from_ms + joins * each_ms), ADDRESS_WINDOW);
            prop_assert!(count <= joins && count * 2 >= joins, "{count} of {joins}");
        }
    }
}
