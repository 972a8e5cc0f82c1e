//! Tests of the proof of work as a join meets it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    edge::overload::proof_of_work::challenge::Salt,
    kernel::{ManualClock, SeededEntropy, Timestamp},
    platform::signing::{hex, sha256},
};

const CALM: Headroom = Headroom {
    free: 1_000,
    limit: 1_000,
};

fn config() -> Config {
    Config {
        difficulty_bits_min: 6,
        difficulty_bits_max: 12,
        joins_per_second_normal: 10,
        joins_per_ip_per_minute_normal: 4,
        challenge_ttl: Duration::from_mins(1),
        used_challenges_max: 1_000,
        allow_over_join_limit: false,
    }
}

fn pow(config: Config) -> (ProofOfWork, Arc<ManualClock>) {
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

/// Finds the number as a browser does.
fn solve(challenge: &Challenge) -> Solution {
    let number = (0..=challenge.maxnumber)
        .find(|number| hex(&sha256(format!("{}{number}", challenge.salt).as_bytes())) == challenge.challenge)
        .expect("one of them solves it");
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
fn a_challenge_counts_once_for_its_sale_until_it_expires() {
    let (pow, clock) = pow(config());
    let solved = |bits| solve(&pow.challenge(&sale("a"), bits));
    let one = solved(6);
    assert_eq!(
        pow.redeem(&sale("b"), &one, 6).unwrap_err(),
        ProofRejection::Wrong
    );
    assert_eq!(
        pow.redeem(&sale("a"), &one, 7).unwrap_err(),
        ProofRejection::TooEasy
    );
    let used = pow.redeem(&sale("a"), &one, 6).unwrap();
    assert_eq!(
        pow.redeem(&sale("a"), &one, 6).unwrap_err(),
        ProofRejection::AlreadyUsed
    );
    pow.release(&used);
    assert!(
        pow.redeem(&sale("a"), &one, 6).is_ok(),
        "a released challenge can be used again"
    );
    let late = solved(6);
    clock.advance(Duration::from_secs(59));
    assert_eq!(
        pow.redeem(&sale("a"), &one, 6).unwrap_err(),
        ProofRejection::AlreadyUsed,
        "remembered until it expires"
    );
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        pow.redeem(&sale("a"), &late, 6).unwrap_err(),
        ProofRejection::Expired
    );
    assert_eq!(
        pow.redeem(&sale("a"), &one, 6).unwrap_err(),
        ProofRejection::Expired
    );
}

#[test]
fn a_clock_set_back_prolongs_no_challenge() {
    let (pow, clock) = pow(config());
    let one = solve(&pow.challenge(&sale("a"), 6));
    clock.step_to(Timestamp::from_secs(1_800_000_000 - 3_600));
    assert_eq!(
        pow.redeem(&sale("a"), &one, 6).unwrap_err(),
        ProofRejection::Expired
    );
}

#[test]
fn digits_cannot_move_between_number_and_salt() {
    let (pow, clock) = pow(config());
    let one = (0..100)
        .map(|_| solve(&pow.challenge(&sale("a"), 12)))
        .find(|solution| solution.number > 99)
        .unwrap();
    pow.redeem(&sale("a"), &one, 0).unwrap();
    let digits = one.number.to_string();
    for at in 1..digits.len() {
        let moved = Solution {
            salt: format!("{}{}", one.salt, &digits[..at]),
            number: digits[at..].parse().unwrap(),
            ..one.clone()
        };
        assert_eq!(
            pow.redeem(&sale("a"), &moved, 0).unwrap_err(),
            ProofRejection::Wrong
        );
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
            pow.redeem(&sale("a"), &changed, 0).unwrap_err(),
            ProofRejection::Wrong,
            "{to}"
        );
    }
    clock.advance(Duration::from_mins(2));
    assert_eq!(
        pow.redeem(&sale("a"), &one, 0).unwrap_err(),
        ProofRejection::Expired
    );
}

#[test]
fn forged_and_altered_solutions_are_rejected() {
    let (pow, _) = pow(config());
    let other = MacKeys::new(&BTreeMap::from([(1, [2; 32])]));
    let forger = ProofOfWork::new(
        config(),
        other,
        Arc::clone(&pow.clock),
        Arc::new(SeededEntropy::new(2)),
    );
    assert_eq!(
        pow.redeem(&sale("a"), &solve(&forger.challenge(&sale("a"), 6)), 6)
            .unwrap_err(),
        ProofRejection::Wrong
    );
    let good = solve(&pow.challenge(&sale("a"), 6));
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
            pow.redeem(&sale("a"), &bad, 6).unwrap_err(),
            ProofRejection::Wrong,
            "{bad:?}"
        );
    }
    assert!(pow.redeem(&sale("a"), &good, 6).is_ok());
}

#[test]
fn the_difficulty_follows_the_load_within_its_bounds() {
    let (pow, clock) = pow(config());
    assert_eq!(pow.bits(None, CALM), 6);
    assert_eq!(
        pow.bits(
            None,
            Headroom {
                free: 500,
                limit: 1_000
            }
        ),
        7,
        "half of the slots are in use"
    );
    assert_eq!(
        pow.bits(
            None,
            Headroom {
                free: 125,
                limit: 1_000
            }
        ),
        9
    );
    assert_eq!(
        pow.bits(
            None,
            Headroom {
                free: 0,
                limit: 1_000
            }
        ),
        12,
        "never above the maximum"
    );
    (0..160).for_each(|_| pow.record_join(None));
    assert_eq!(pow.bits(None, CALM), 8, "four times the normal number");
    assert_eq!(pow.accepted_bits_min(None), 6, "the overall load does not count");
    clock.advance(Duration::from_secs(8));
    assert_eq!(pow.bits(None, CALM), 6);
}

#[test]
fn an_address_pays_for_its_own_joins_per_ipv6_64() {
    let (pow, clock) = pow(Config {
        joins_per_second_normal: 1_000,
        ..config()
    });
    (0..16).for_each(|_| pow.record_join(Some(address("2001:db8::1"))));
    assert_eq!(pow.bits(Some(address("2001:db8::2")), CALM), 8);
    assert_eq!(pow.accepted_bits_min(Some(address("2001:db8::2"))), 7);
    assert_eq!(pow.bits(Some(address("2001:db8:0:1::2")), CALM), 6);
    clock.advance(Duration::from_mins(2));
    assert_eq!(pow.bits(Some(address("2001:db8::2")), CALM), 6);
    pow.remove_expired();
    assert!(pow.addresses.is_empty());
}

#[test]
fn a_maximum_of_zero_asks_for_no_work() {
    let (pow, _) = pow(Config {
        difficulty_bits_min: 0,
        difficulty_bits_max: 0,
        ..config()
    });
    (0..1_000).for_each(|_| pow.record_join(None));
    assert!(!pow.is_enabled());
    assert_eq!(pow.bits(None, Headroom { free: 0, limit: 9 }), 0);
}

#[test]
fn used_challenges_are_bounded_and_expire() {
    let (pow, clock) = pow(Config {
        used_challenges_max: 3,
        ..config()
    });
    let spend = || {
        pow.redeem(&sale("a"), &solve(&pow.challenge(&sale("a"), 1)), 0)
            .map(|_| ())
    };
    assert!((0..3).all(|_| spend().is_ok()));
    assert_eq!(spend(), Err(ProofRejection::TooManyUsed));
    clock.advance(Duration::from_mins(2));
    pow.remove_expired();
    let used = pow.used.lock();
    assert!(used.current.is_empty() && used.next.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_salt(text in ".{0,200}") {
        prop_assert!(Salt::from_text(&text).is_none());
    }

    #[test]
    fn at_least_half_of_a_minutes_joins_are_counted(each_ms in 1_u64..1_000, from_ms in 0_u64..120_000) {
        let mut joins_seen = SlidingCount::default();
        let joins = 60_000 / each_ms;
        for n in 0..joins {
            joins_seen.add(Duration::from_millis(from_ms + n * each_ms), ADDRESS_WINDOW);
        }
        let count = joins_seen.count(Duration::from_millis(from_ms + joins * each_ms), ADDRESS_WINDOW);
        prop_assert!(count <= joins && count * 2 >= joins, "{count} of {joins}");
    }
}
