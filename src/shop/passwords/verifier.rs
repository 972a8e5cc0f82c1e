//! Verifies passwords on threads of their own: a verification takes a quarter of a second of a core by
//! design, and must not block the async runtime.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    kernel::{Clock, Entropy},
    shop::passwords::stored_hash::{Cost, Digest, StoredHash},
};

/// A slot in the bounded queue of the threads: the right to one verification.
pub(crate) struct QueueSlot {
    client: IpAddr,
    slots: Arc<Slots>,
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.total -= 1;
        if let Entry::Occupied(mut own) = taken.by_client.entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// The slots of the queue. A client gets one more only while it has fewer than are free: alone it fills half
/// of the queue, and another client always finds a slot (Choudhury and Hahne, "Dynamic queue length
/// thresholds for shared-memory packet switches", 1998).
struct Slots {
    count: usize,
    taken: Mutex<TakenSlots>,
}

#[derive(Default)]
struct TakenSlots {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Slots {
    fn try_take(self: &Arc<Self>, client: IpAddr) -> Option<QueueSlot> {
        let mut taken = self.taken.lock();
        let free = self.count - taken.total;
        let own = taken.by_client.get(&client).copied().unwrap_or(0);
        if own >= free {
            return None;
        }
        taken.total += 1;
        taken.by_client.insert(client, own + 1);
        drop(taken);
        Some(QueueSlot {
            client,
            slots: Arc::clone(self),
        })
    }
}

struct Check {
    password: String,
    stored: StoredHash,
    reply: oneshot::Sender<bool>,
    slot: QueueSlot,
}

/// The threads and their bounded queue. The threads end when it is dropped.
pub(crate) struct PasswordVerifier {
    checks: mpsc::SyncSender<Check>,
    slots: Arc<Slots>,
    threads: u32,
    /// Moving average of a verification's time.
    average_check_ms: Arc<AtomicU64>,
    /// The cost of the last hash: a verification for an unknown login must cost the same.
    decoy_cost: Mutex<Cost>,
    entropy: Arc<dyn Entropy>,
}

impl PasswordVerifier {
    /// Starts the threads. At most `waiting_max` verifications wait for them.
    ///
    /// # Errors
    /// When the system creates no threads.
    pub(crate) fn start(
        threads: usize,
        waiting_max: usize,
        clock: &Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> std::io::Result<Self> {
        let slots_max = threads.saturating_add(waiting_max).min(1 << 20);
        let (checks, queue) = mpsc::sync_channel::<Check>(slots_max);
        let queue = Arc::new(Mutex::new(queue));
        let check_ms = Arc::new(AtomicU64::new(250));
        for ix in 0..threads {
            let (queue, clock, check_ms) = (Arc::clone(&queue), Arc::clone(clock), Arc::clone(&check_ms));
            std::thread::Builder::new()
                .name(format!("password-{ix}"))
                .spawn(move || work(&queue, &*clock, &check_ms))?;
        }
        let usual = Cost {
            digest: Digest::Sha256,
            iterations: const { NonZeroU32::new(600_000).unwrap() },
        };
        Ok(Self {
            checks,
            slots: Arc::new(Slots {
                count: slots_max,
                taken: Mutex::default(),
            }),
            threads: u32::try_from(threads).unwrap_or(u32::MAX).max(1),
            average_check_ms: check_ms,
            decoy_cost: Mutex::new(usual),
            entropy,
        })
    }

    /// Reserves a slot; when the client's share of the queue is taken, returns how long it should wait.
    /// Reserved before the shop is queried, so that a storm of sign-ins does not reach it.
    pub(crate) fn try_reserve(&self, client: IpAddr) -> Result<QueueSlot, Duration> {
        self.slots.try_take(client).ok_or_else(|| {
            metrics::counter!("stagedoor_shop_password_checks_total", "outcome" => "queue_full").increment(1);
            let queue_ms = self
                .average_check_ms
                .load(Ordering::Relaxed)
                .saturating_mul(self.slots.count as u64 / u64::from(self.threads));
            Duration::from_millis(queue_ms.clamp(1_000, 30_000)).mul_f64(1.0 + self.entropy.unit())
        })
    }

    /// Whether the password matches `hash`. For `None` and for unusable hashes the result is `false` after
    /// the same work, so that the response time does not reveal which logins exist.
    pub(crate) async fn verify(&self, slot: QueueSlot, password: &str, hash: Option<&str>) -> bool {
        let stored = if let Some(stored) = hash.and_then(StoredHash::parse) {
            *self.decoy_cost.lock() = stored.cost();
            stored
        } else {
            if hash.is_some_and(|hash| !hash.is_empty() && !hash.starts_with('!')) {
                metrics::counter!("stagedoor_shop_password_checks_total", "outcome" => "unknown_format")
                    .increment(1);
            }
            StoredHash::decoy(*self.decoy_cost.lock())
        };
        let (reply, result) = oneshot::channel();
        let check = Check {
            password: password.to_owned(),
            stored,
            reply,
            slot,
        };
        // The queue has room for every slot; sending fails only when all threads are gone.
        if self.checks.try_send(check).is_err() {
            tracing::error!("all password threads have ended; every sign-in by password is refused");
            return false;
        }
        let right = result.await.unwrap_or(false);
        let outcome = if right { "right" } else { "wrong" };
        metrics::counter!("stagedoor_shop_password_checks_total", "outcome" => outcome).increment(1);
        right
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Check>>, clock: &dyn Clock, check_ms: &AtomicU64) {
    loop {
        let next = queue.lock().recv();
        let Ok(Check {
            password,
            stored,
            reply,
            slot,
        }) = next
        else {
            return;
        };
        // A client that disconnected meanwhile costs no verification.
        if reply.is_closed() {
            continue;
        }
        let started_at = clock.monotonic();
        let right = stored.matches(&password);
        let took_ms =
            u64::try_from((clock.monotonic().saturating_sub(started_at)).as_millis()).unwrap_or(u64::MAX);
        check_ms.store(
            (check_ms.load(Ordering::Relaxed).saturating_mul(7) / 8).saturating_add(took_ms / 8),
            Ordering::Relaxed,
        );
        drop(slot);
        let _ = reply.send(right);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        kernel::{SeededEntropy, SystemClock},
        shop::passwords::stored_hash::django_hash,
    };

    const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();
    const ONE: IpAddr = network(1);

    const fn network(client: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, client))
    }

    fn threads(threads: usize, waiting_max: usize) -> PasswordVerifier {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        PasswordVerifier::start(threads, waiting_max, &clock, Arc::new(SeededEntropy::new(1))).unwrap()
    }

    #[tokio::test]
    async fn slots_are_released_after_verification() {
        let threads = threads(2, 1);
        let hash = django_hash("hero-lim", "salt", FEW);
        for _ in 0..10 {
            assert!(
                threads
                    .verify(threads.try_reserve(ONE).unwrap(), "hero-lim", Some(&hash))
                    .await
            );
            assert!(
                !threads
                    .verify(threads.try_reserve(ONE).unwrap(), "hero", Some(&hash))
                    .await
            );
            assert!(!threads.verify(threads.try_reserve(ONE).unwrap(), "", None).await);
            assert!(
                !threads
                    .verify(threads.try_reserve(ONE).unwrap(), "x", Some("!unusable"))
                    .await
            );
        }
        let slots: Vec<_> = [1, 1, 2]
            .map(|client| threads.try_reserve(network(client)).unwrap())
            .into();
        let wait = threads
            .try_reserve(network(3))
            .err()
            .expect("two running and one waiting");
        assert!(wait >= Duration::from_secs(1));
        assert_ne!(
            threads.try_reserve(ONE).err(),
            Some(wait),
            "clients return at different times"
        );
        drop(slots);
        assert!(threads.try_reserve(ONE).is_ok());
        assert!(threads.slots.taken.lock().by_client.is_empty());
    }

    #[test]
    fn one_client_leaves_slots_for_others() {
        let threads = threads(1, 15);
        let take_all =
            |client| -> Vec<_> { std::iter::from_fn(|| threads.try_reserve(network(client)).ok()).collect() };
        let storm = take_all(1);
        assert_eq!(storm.len(), 8, "half of what there is");
        let second_storm = take_all(2);
        assert_eq!(second_storm.len(), 4, "half of what is left");
        let honest = threads.try_reserve(network(3));
        assert!(honest.is_ok(), "another client finds a slot");
        drop(storm);
        assert_eq!(take_all(4).len(), 6, "11 were free");
    }

    #[tokio::test]
    async fn an_unknown_login_costs_as_much_as_a_known_one() {
        let threads = threads(1, 1);
        assert_eq!(
            threads.decoy_cost.lock().iterations.get(),
            600_000,
            "before the first hash: Django's default"
        );
        threads.decoy_cost.lock().iterations = FEW;
        let hash = django_hash("x", "salt", NonZeroU32::new(77).unwrap());
        threads
            .verify(threads.try_reserve(ONE).unwrap(), "x", Some(&hash))
            .await;
        let StoredHash::Pbkdf2 { cost, .. } = StoredHash::decoy(*threads.decoy_cost.lock());
        assert_eq!(
            cost,
            Cost {
                digest: Digest::Sha256,
                iterations: NonZeroU32::new(77).unwrap()
            }
        );
    }

    #[tokio::test]
    async fn a_dropped_request_costs_no_verification() {
        let threads = threads(1, 4);
        // Would take seconds if it were verified.
        let costly = django_hash("x", "salt", FEW).replace("$10$", "$5000000$");
        for client in 2..6 {
            let slot = threads.try_reserve(network(client)).unwrap();
            let waiting = threads.verify(slot, "x", Some(&costly));
            assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
        }
        let quick = django_hash("x", "salt", FEW);
        let clock = SystemClock::new();
        assert!(
            threads
                .verify(threads.try_reserve(ONE).unwrap(), "x", Some(&quick))
                .await
        );
        assert!(
            clock.monotonic() < Duration::from_secs(12),
            "at most the first of four had started"
        );
    }
}
