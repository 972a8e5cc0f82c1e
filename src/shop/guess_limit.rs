//! Slows down guessing an account's password: each account has a budget of wrong passwords that refills.
//!
//! One client may spend half of it only. So an attacker at one address can never spend what the account's
//! owner needs to sign in from another. An account that the shop does not know has a budget too: the answers
//! do not tell which accounts exist.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    kernel::Clock,
    platform::{
        rate_limit::{Rate, RateLimit},
        signing::sha256,
    },
};

/// An account by the first half of its login's SHA-256: it has a fixed size, and no other login with the same
/// half can be found.
type Account = [u8; 16];

/// The budgets of wrong passwords.
pub(crate) struct GuessLimit {
    accounts: RateLimit<Account>,
    clients: RateLimit<(Account, IpAddr)>,
}

/// A guess that is paid for.
pub(crate) struct Guess {
    account: Account,
    client: IpAddr,
}

impl GuessLimit {
    /// So many wrong passwords a minute for each account; 0 means no limit.
    pub(crate) fn new(per_minute: u32, clock: &Arc<dyn Clock>) -> Self {
        Self {
            accounts: RateLimit::new(Rate::per_minute(per_minute), Arc::clone(clock)),
            clients: RateLimit::new(Rate::per_minute(per_minute.div_ceil(2)), Arc::clone(clock)),
        }
    }

    /// Pays for one guess, before it is known whether the password is wrong: requests at the same time must
    /// not exceed the budget. `login` is normalized.
    ///
    /// # Errors
    /// How long to wait until the next guess.
    pub(crate) fn take(&self, login: &str, client: IpAddr) -> Result<Guess, Duration> {
        let digest = sha256(login.as_bytes());
        let account = *digest.first_chunk().expect("a SHA-256 has 32 bytes");
        let guess = Guess { account, client };
        self.clients.take((account, client))?;
        self.accounts
            .take(account)
            .inspect_err(|_| self.clients.give_back(&(account, client)))?;
        Ok(guess)
    }

    /// Returns the price of a guess that was not wrong, or not looked at.
    pub(crate) fn give_back(&self, guess: &Guess) {
        self.accounts.give_back(&guess.account);
        self.clients.give_back(&(guess.account, guess.client));
    }

    /// Drops the budgets that are whole again. To be called now and then.
    pub(crate) fn remove_idle(&self) {
        self.accounts.remove_idle();
        self.clients.remove_idle();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    fn client(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn limit(per_minute: u32) -> (Arc<ManualClock>, GuessLimit) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = GuessLimit::new(per_minute, &(Arc::clone(&clock) as Arc<dyn Clock>));
        (clock, limit)
    }

    #[test]
    fn one_client_spends_half_of_a_budget() {
        let (clock, limit) = limit(12);
        let spent = |number| std::iter::from_fn(|| limit.take("mina", client(number)).ok()).count();
        assert_eq!([spent(1), spent(1), spent(2), spent(3)], [6, 0, 6, 0]);
        assert_eq!(limit.take("mina", client(3)).err(), Some(Duration::from_secs(5)));
        assert!(limit.take("jun", client(1)).is_ok(), "another account");
        // The attacker at 1 never stops; the owner at 4 finds a guess as soon as there is one.
        clock.advance(Duration::from_secs(10));
        assert_eq!([spent(1), spent(4)], [1, 1]);
        clock.advance(Duration::from_mins(2));
        limit.remove_idle();
        assert_eq!(spent(1), 6);
    }

    #[test]
    fn right_passwords_cost_nothing() {
        let (_, limit) = limit(1);
        for _ in 0..10 {
            let guess = limit.take("mina", client(1)).unwrap();
            assert!(limit.take("mina", client(1)).is_err(), "one at a time");
            limit.give_back(&guess);
        }
    }

    #[test]
    fn zero_means_no_limit() {
        let (_, limit) = limit(0);
        assert!((0..100).all(|_| limit.take("mina", client(1)).is_ok()));
    }
}
