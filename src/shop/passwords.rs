//! Checks passwords against the hashes that shops store, on threads of its own: a check takes a quarter of a second of
//! a core by design, and must take it from nobody else.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use aws_lc_rs::pbkdf2;
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::kernel::{Clock, Entropy};

/// A hash that asks for more would let the shop's table stop our threads. Django 6 asks for 1.2 million.
const ITERATIONS_MAX: u32 = 5_000_000;

/// A stored password hash of a known format.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredHash {
    /// Django: `pbkdf2_sha256$ITERATIONS$SALT$BASE64` and `pbkdf2_sha1$...`.
    Pbkdf2 {
        cost: Cost,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// What makes a check slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    digest: Digest,
    iterations: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
}

impl Digest {
    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl StoredHash {
    /// `None` for formats that are not known, for accounts without a usable password (`!...`) and for costs beyond reason.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (scheme, iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digest = match scheme {
            "pbkdf2_sha256" => Digest::Sha256,
            "pbkdf2_sha1" => Digest::Sha1,
            _ => return None,
        };
        let iterations = iterations
            .parse::<NonZeroU32>()
            .ok()
            .filter(|n| n.get() <= ITERATIONS_MAX)?;
        let hash = STANDARD.decode(hash).ok().filter(|h| h.len() == digest.len())?;
        let whole = parts.next().is_none() && !salt.is_empty();
        whole.then(|| Self::Pbkdf2 {
            cost: Cost { digest, iterations },
            salt: salt.as_bytes().to_vec(),
            hash,
        })
    }

    fn cost(&self) -> Cost {
        match self {
            Self::Pbkdf2 { cost, .. } => *cost,
        }
    }

    /// Takes the same time for every password.
    fn matches(&self, password: &str) -> bool {
        match self {
            Self::Pbkdf2 { cost, salt, hash } => pbkdf2::verify(
                cost.digest.algorithm(),
                cost.iterations,
                salt,
                password.as_bytes(),
                hash,
            )
            .is_ok(),
        }
    }

    /// A hash that costs as much and that nobody's password has.
    fn decoy(cost: Cost) -> Self {
        Self::Pbkdf2 {
            cost,
            salt: b"nobody".to_vec(),
            hash: vec![0; cost.digest.len()],
        }
    }
}

/// A hash as Django stores it.
pub(super) fn django_hash(password: &str, salt: &str, iterations: NonZeroU32) -> String {
    let mut hash = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt.as_bytes(),
        password.as_bytes(),
        &mut hash,
    );
    format!("pbkdf2_sha256${iterations}${salt}${}", STANDARD.encode(hash))
}

/// The right to one check: a place in the bounded queue before the threads.
pub(super) type QueueSlot = OwnedSemaphorePermit;

struct Check {
    password: String,
    stored: StoredHash,
    answer: oneshot::Sender<bool>,
    place: QueueSlot,
}

/// The threads and the queue before them. The threads end when it is dropped.
pub(super) struct PasswordVerifier {
    checks: mpsc::SyncSender<Check>,
    slots: Arc<Semaphore>,
    slots_max: u32,
    threads: u32,
    /// A recent check's time.
    average_check_ms: Arc<AtomicU64>,
    /// The cost of the hash seen last: what a check of nobody's password must cost too.
    decoy_cost: Mutex<Cost>,
    entropy: Arc<dyn Entropy>,
}

impl PasswordVerifier {
    /// # Errors
    /// When the system gives no threads.
    pub(super) fn start(
        threads: usize,
        waiting_max: usize,
        clock: &Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> std::io::Result<Self> {
        let places_max = threads.saturating_add(waiting_max).min(1 << 20);
        let (checks, queue) = mpsc::sync_channel::<Check>(places_max);
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
            slots: Arc::new(Semaphore::new(places_max)),
            slots_max: u32::try_from(places_max).unwrap_or(u32::MAX),
            threads: u32::try_from(threads).unwrap_or(u32::MAX).max(1),
            average_check_ms: check_ms,
            decoy_cost: Mutex::new(usual),
            entropy,
        })
    }

    /// A place, or how long to stay away when there is none. Taken before the shop is asked, so that a storm of
    /// sign-ins ends here.
    pub(super) fn place(&self) -> Result<QueueSlot, Duration> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            metrics::counter!("shop_password_checks_total", "outcome" => "busy").increment(1);
            let drained_ms = self
                .average_check_ms
                .load(Ordering::Relaxed)
                .saturating_mul(u64::from(self.slots_max / self.threads));
            Duration::from_millis(drained_ms.clamp(1_000, 30_000)).mul_f64(1.0 + self.entropy.unit())
        })
    }

    /// Whether the password is the one of `hash`. For `None`, and for a hash that cannot be used, it is not, after the
    /// same work.
    pub(super) async fn verify(&self, place: QueueSlot, password: &str, hash: Option<&str>) -> bool {
        let stored = if let Some(stored) = hash.and_then(StoredHash::parse) {
            *self.decoy_cost.lock() = stored.cost();
            stored
        } else {
            if hash.is_some_and(|h| !h.is_empty() && !h.starts_with('!')) {
                metrics::counter!("shop_password_checks_total", "outcome" => "unknown_format").increment(1);
            }
            StoredHash::decoy(*self.decoy_cost.lock())
        };
        let (answer, answered) = oneshot::channel();
        let check = Check {
            password: password.to_owned(),
            stored,
            answer,
            place,
        };
        // The queue has room for every place; it is closed only when all threads are gone.
        if self.checks.try_send(check).is_err() {
            tracing::error!("no thread checks passwords any more");
            return false;
        }
        let right = answered.await.unwrap_or(false);
        metrics::counter!("shop_password_checks_total", "outcome" => if right { "right" } else { "wrong" })
            .increment(1);
        right
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Check>>, clock: &dyn Clock, check_ms: &AtomicU64) {
    loop {
        let next = queue.lock().recv();
        let Ok(Check {
            password,
            stored,
            answer,
            place,
        }) = next
        else {
            return;
        };
        // Whoever hung up meanwhile costs nothing.
        if answer.is_closed() {
            continue;
        }
        let begun = clock.monotonic();
        let right = stored.matches(&password);
        let took_ms =
            u64::try_from((clock.monotonic().saturating_sub(begun)).as_millis()).unwrap_or(u64::MAX);
        check_ms.store(
            (check_ms.load(Ordering::Relaxed).saturating_mul(7) / 8).saturating_add(took_ms / 8),
            Ordering::Relaxed,
        );
        drop(place);
        let _ = answer.send(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SeededEntropy, SystemClock};

    const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();

    fn threads(threads: usize, waiting_max: usize) -> PasswordVerifier {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        PasswordVerifier::start(threads, waiting_max, &clock, Arc::new(SeededEntropy::new(1))).unwrap()
    }

    #[test]
    fn hashes_made_elsewhere_are_understood() {
        // RFC 6070 gives the SHA-1 values; the SHA-256 one is the widely published counterpart for the same input.
        let sha1 = StoredHash::parse("pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=").unwrap();
        let sha256 =
            StoredHash::parse("pbkdf2_sha256$4096$salt$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o=")
                .unwrap();
        for hash in [sha1, sha256] {
            assert!(hash.matches("password"));
            assert!(!hash.matches("Password"));
            assert!(!hash.matches(""));
        }
        let made = StoredHash::parse(&django_hash("비밀번호", "salt", FEW)).unwrap();
        assert!(made.matches("비밀번호") && !made.matches("비밀"));
    }

    #[test]
    fn what_is_not_a_usable_hash_is_refused() {
        let good = django_hash("x", "salt", FEW);
        let short = &good[..good.len() - 4];
        let beyond = good.replace("$10$", "$5000001$");
        let none = good.replace("$10$", "$0$");
        let saltless = good.replace("$salt$", "$$");
        let trailing = format!("{good}$");
        let other = good.replace("sha256", "sha512");
        for text in [
            "", "!", "!abc", "plain", "$$$", "md5$a$b", short, &beyond, &none, &saltless, &trailing, &other,
        ] {
            assert!(StoredHash::parse(text).is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn checks_are_answered_and_places_come_back() {
        let threads = threads(2, 1);
        let hash = django_hash("hero-lim", "salt", FEW);
        for _ in 0..10 {
            assert!(
                threads
                    .verify(threads.place().unwrap(), "hero-lim", Some(&hash))
                    .await
            );
            assert!(!threads.verify(threads.place().unwrap(), "hero", Some(&hash)).await);
            assert!(!threads.verify(threads.place().unwrap(), "", None).await);
            assert!(
                !threads
                    .verify(threads.place().unwrap(), "x", Some("!unusable"))
                    .await
            );
        }
        let places: Vec<_> = (0..3).map(|_| threads.place().unwrap()).collect();
        let stay_away = threads.place().expect_err("two at work and one waiting are all");
        assert!(stay_away >= Duration::from_secs(1));
        assert_ne!(
            threads.place().err(),
            Some(stay_away),
            "not everybody comes back at once"
        );
        drop(places);
        assert!(threads.place().is_ok());
    }

    #[tokio::test]
    async fn nobodys_password_costs_what_a_customers_does() {
        let threads = threads(1, 1);
        assert_eq!(
            threads.decoy_cost.lock().iterations.get(),
            600_000,
            "before any hash was seen: what Django takes"
        );
        threads.decoy_cost.lock().iterations = FEW;
        let hash = django_hash("x", "salt", NonZeroU32::new(77).unwrap());
        threads.verify(threads.place().unwrap(), "x", Some(&hash)).await;
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
    async fn who_hung_up_costs_no_check() {
        let threads = threads(1, 4);
        // Seconds of work, should they be done.
        let costly = django_hash("x", "salt", FEW).replace("$10$", "$5000000$");
        for _ in 0..4 {
            let waiting = threads.verify(threads.place().unwrap(), "x", Some(&costly));
            assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
        }
        let quick = django_hash("x", "salt", FEW);
        let begun = SystemClock::new();
        assert!(threads.verify(threads.place().unwrap(), "x", Some(&quick)).await);
        assert!(
            begun.monotonic() < Duration::from_secs(12),
            "at most the first of four was under way"
        );
    }
}
