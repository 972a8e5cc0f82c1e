//! Verifies passwords on threads of their own: a verification takes a quarter of a second of a core by
//! design, and must not block the async runtime.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
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
    shop::passwords::{
        capacity::{MeasuredHash, PasswordLimits},
        formats::django_hash,
        password_format::PasswordFormat,
        stored_hash::{StoredHash, Unusable},
    },
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
    limits: PasswordLimits,
    /// Moving average of a verification's time.
    average_check_ms: Arc<AtomicU64>,
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
        let check_time = Duration::from_millis(self.average_check_ms.load(Ordering::Relaxed));
        let free = self.limits.slots(check_time).saturating_sub(taken.total);
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

/// What a verification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password is right.
    Right,
    /// It is wrong, or there is no such customer, or the account has no password.
    Wrong,
    /// The stored hash cannot be verified here, so that nothing is known of the password.
    NotVerifiable,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::NotVerifiable => "not_verifiable",
        }
    }
}

/// The threads and their bounded queue. The threads end when it is dropped.
pub(crate) struct PasswordVerifier {
    checks: mpsc::SyncSender<Check>,
    slots: Arc<Slots>,
    /// The last hash that was verified: a verification for an unknown login must cost the same.
    decoy: Mutex<StoredHash>,
    /// Formats that protect nothing and are verified all the same.
    allowed_unsafe: Vec<PasswordFormat>,
    entropy: Arc<dyn Entropy>,
}

impl PasswordVerifier {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system creates no threads.
    pub(crate) fn start(
        limits: PasswordLimits,
        allowed_unsafe: Vec<PasswordFormat>,
        clock: &Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> std::io::Result<Self> {
        let (checks, queue) = mpsc::sync_channel::<Check>(limits.slots_max());
        let queue = Arc::new(Mutex::new(queue));
        let check_ms = Arc::new(AtomicU64::new(250));
        for ix in 0..limits.threads {
            let (queue, clock, check_ms) = (Arc::clone(&queue), Arc::clone(clock), Arc::clone(&check_ms));
            std::thread::Builder::new()
                .name(format!("password-{ix}"))
                .spawn(move || work(&queue, &*clock, &check_ms))?;
        }
        Ok(Self {
            checks,
            slots: Arc::new(Slots {
                limits,
                average_check_ms: check_ms,
                taken: Mutex::default(),
            }),
            decoy: Mutex::new(first_decoy()),
            allowed_unsafe,
            entropy,
        })
    }

    /// Takes over what was measured: until the first sign-ins a verification is taken to last so long, and
    /// one for an unknown login costs as much.
    pub(crate) fn calibrate(&self, measured: MeasuredHash) {
        let check_ms = u64::try_from(measured.check_time.as_millis()).unwrap_or(u64::MAX);
        self.slots.average_check_ms.store(check_ms, Ordering::Relaxed);
        *self.decoy.lock() = measured.hash;
    }

    /// Reserves a slot; when the client's share of the queue is taken, returns how long it should wait.
    /// Reserved before the shop is queried, so that a storm of sign-ins does not reach it.
    pub(crate) fn try_reserve(&self, client: IpAddr) -> Result<QueueSlot, Duration> {
        self.slots.try_take(client).ok_or_else(|| {
            metrics::counter!("stagedoor_shop_password_checks_total", "outcome" => "queue_full").increment(1);
            let limits = self.slots.limits;
            let rounds = limits.slots_max() / limits.threads.max(1);
            let check_ms = self.slots.average_check_ms.load(Ordering::Relaxed);
            let queue_ms = check_ms.saturating_mul(rounds as u64);
            Duration::from_millis(queue_ms.clamp(1_000, 30_000)).mul_f64(1.0 + self.entropy.unit())
        })
    }

    /// Whether the password matches `hash`. The work is the same for `None` and for hashes that cannot be
    /// verified, so that the response time does not reveal which logins exist.
    pub(crate) async fn verify(&self, slot: QueueSlot, password: &str, hash: Option<&str>) -> Verdict {
        let parsed = hash.map(|hash| StoredHash::parse(hash, &self.allowed_unsafe));
        let verdict_of_wrong = match &parsed {
            Some(Err(why)) => verdict_of(why),
            _ => Verdict::Wrong,
        };
        let known = parsed.and_then(Result::ok);
        let is_known = known.is_some();
        let stored = if let Some(stored) = known {
            self.decoy.lock().clone_from(&stored);
            stored
        } else {
            self.decoy.lock().clone()
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
            return Verdict::Wrong;
        }
        let is_right = result.await.unwrap_or(false) && is_known;
        let verdict = if is_right {
            Verdict::Right
        } else {
            verdict_of_wrong
        };
        metrics::counter!("stagedoor_shop_password_checks_total", "outcome" => verdict.name()).increment(1);
        verdict
    }
}

/// Says which format a customer could not sign in with.
fn verdict_of(why: &Unusable) -> Verdict {
    let remedy = match why {
        Unusable::NoPassword => return Verdict::Wrong,
        Unusable::UnknownFormat(_) => "let customers sign in at the shop (shop.handoff)",
        Unusable::Unsafe(_) => "let them sign in at the shop, or name it in shop.unsafe_password_formats",
        Unusable::TooCostly(_) => "let customers sign in at the shop (shop.handoff), or hash at a lower cost",
    };
    let format = why.format();
    tracing::warn!(
        format,
        remedy,
        "a customer cannot sign in: the stored password is not verifiable here"
    );
    metrics::counter!(
        "stagedoor_shop_unverifiable_passwords_total",
        "format" => match why {
            // What the shop stores must not make a new series.
            Unusable::UnknownFormat(_) | Unusable::NoPassword => "unknown",
            Unusable::Unsafe(format) | Unusable::TooCostly(format) => format.name(),
        }
    )
    .increment(1);
    Verdict::NotVerifiable
}

/// Before the first hash of the shop is seen: what Django does by default.
fn first_decoy() -> StoredHash {
    // Only its cost counts: no password is right for a decoy.
    let cheap = django_hash("decoy", "decoy", std::num::NonZeroU32::MIN);
    StoredHash::parse(&cheap.replace("$1$", "$600000$"), &[]).expect("the hash is well formed")
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
mod tests;
