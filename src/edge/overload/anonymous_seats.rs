//! How many seats the anonymous visitors of one address may hold at once.
//!
//! An anonymous visitor costs little to invent, so the limit for each visitor alone would let one client hold
//! block after block. The count is kept in this process's memory and not in the seat store: addresses of
//! people are not stored, and holds of other sales must not pay for it. So with several nodes an address may
//! hold that many seats at each, and a restart forgets what was held.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;

use crate::{
    edge::overload::client_ip::client_network,
    kernel::{HoldId, Timestamp},
};

/// The seats that anonymous visitors hold, by client: an IPv4 address or an IPv6 /64.
pub struct AnonymousSeats {
    seats_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The client that each hold counts for.
    client_of: HashMap<HoldId, IpAddr>,
    by_client: HashMap<IpAddr, Vec<HeldSeats>>,
}

struct HeldSeats {
    hold: HoldId,
    seats: usize,
    until: Timestamp,
}

impl AnonymousSeats {
    /// At most `seats_max` seats for each client; 0 means no limit.
    #[must_use]
    pub fn new(seats_max: usize) -> Self {
        Self {
            seats_max,
            held: Mutex::default(),
        }
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.seats_max != 0
    }

    /// Counts these seats for the client from now on, if it may hold so many more. A reservation has an id of
    /// its own, since a hold that does not exist yet has none.
    ///
    /// # Errors
    /// How long until the client's first hold ends.
    pub fn reserve(
        &self,
        client: IpAddr,
        id: HoldId,
        seats: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), Duration> {
        let client = client_network(client);
        let mut held = self.held.lock();
        let own = held.by_client.get(&client).into_iter().flatten();
        let live = own.filter(|one| one.until > now);
        let (held_seats, first_end) = live.fold((0, until), |(sum, end), one| {
            (sum + one.seats, end.min(one.until))
        });
        // A hold that does not grow may be swapped, also where a restart left more than the limit.
        if seats > 0 && held_seats + seats > self.seats_max {
            return Err(first_end.since(now));
        }
        held.count(client, id, seats, until);
        Ok(())
    }

    /// Counts a hold as it is now: for the client that made it, or for this one if this process does not know
    /// the hold.
    pub fn record(&self, client: IpAddr, hold: HoldId, seats: usize, until: Timestamp) {
        let mut held = self.held.lock();
        let client = held.remove(hold).unwrap_or_else(|| client_network(client));
        held.count(client, hold, seats, until);
    }

    /// The client that a hold counts for.
    #[must_use]
    pub fn client_of(&self, hold: HoldId) -> Option<IpAddr> {
        self.held.lock().client_of.get(&hold).copied()
    }

    /// Stops counting a hold or a reservation.
    pub fn release(&self, id: HoldId) {
        self.held.lock().remove(id);
    }

    /// Drops the holds that have ended. To be called now and then.
    pub fn remove_expired(&self, now: Timestamp) {
        let mut held = self.held.lock();
        let Held { client_of, by_client } = &mut *held;
        by_client.retain(|_, own| {
            for ended in own.extract_if(.., |one| one.until <= now) {
                client_of.remove(&ended.hold);
            }
            !own.is_empty()
        });
    }
}

impl Held {
    fn count(&mut self, client: IpAddr, hold: HoldId, seats: usize, until: Timestamp) {
        self.client_of.insert(hold, client);
        let own = self.by_client.entry(client).or_default();
        own.push(HeldSeats { hold, seats, until });
    }

    /// Returns the client that it counted for.
    fn remove(&mut self, hold: HoldId) -> Option<IpAddr> {
        let client = self.client_of.remove(&hold)?;
        if let Some(own) = self.by_client.get_mut(&client) {
            own.retain(|one| one.hold != hold);
            if own.is_empty() {
                self.by_client.remove(&client);
            }
        }
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ids() -> impl FnMut() -> HoldId {
        let entropy = SeededEntropy::new(1);
        move || HoldId::random(&entropy)
    }

    #[test]
    fn an_address_holds_so_many_seats_at_once() {
        let seats = AnonymousSeats::new(6);
        let mut id = ids();
        let (one, other) = (address("2001:db8::1"), address("192.0.2.1"));
        let (first, second) = (id(), id());
        assert_eq!(seats.reserve(one, first, 4, at(0), at(60)), Ok(()));
        assert_eq!(
            seats.reserve(address("2001:db8::2"), id(), 3, at(10), at(70)),
            Err(Duration::from_secs(50)),
            "the same household"
        );
        assert_eq!(seats.reserve(other, id(), 6, at(10), at(70)), Ok(()));
        assert_eq!(seats.reserve(one, second, 2, at(10), at(70)), Ok(()));
        seats.release(second);
        assert_eq!(seats.reserve(one, id(), 2, at(10), at(70)), Ok(()));
        assert_eq!(
            seats.reserve(one, id(), 4, at(60), at(90)),
            Ok(()),
            "the first hold has ended"
        );
    }

    #[test]
    fn a_hold_counts_once_where_it_was_made() {
        let seats = AnonymousSeats::new(4);
        let mut id = ids();
        let (home, train) = (address("192.0.2.1"), address("192.0.2.2"));
        let (reservation, hold) = (id(), id());
        assert_eq!(seats.reserve(home, reservation, 3, at(0), at(60)), Ok(()));
        seats.record(home, hold, 3, at(60));
        seats.release(reservation);
        seats.record(train, hold, 4, at(120));
        assert_eq!(seats.client_of(hold), Some(home));
        assert_eq!(
            seats.reserve(home, id(), 1, at(1), at(60)),
            Err(Duration::from_secs(59))
        );
        assert_eq!(
            seats.reserve(home, id(), 0, at(1), at(60)),
            Ok(()),
            "it does not grow"
        );
        assert_eq!(seats.reserve(train, id(), 4, at(1), at(60)), Ok(()));
        seats.remove_expired(at(119));
        assert_eq!(seats.client_of(hold), Some(home));
        seats.remove_expired(at(120));
        let held = seats.held.lock();
        assert!(held.client_of.is_empty() && held.by_client.is_empty());
    }
}
