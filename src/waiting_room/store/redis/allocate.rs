//! Assigns arrival numbers, a whole batch of joins with one call.
//!
//! A customer's number is found again by its subject, so it is written into a bucket. An anonymous subject is
//! made for one join and shown to no other, so it needs a number and nothing else. While many anonymous
//! visitors join, a node prefetches blocks of numbers for the next milliseconds: those joins wait for no call
//! to Redis. Unused prefetched numbers are discarded.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    platform::redis::{Call, FencedConnection},
    waiting_room::{
        journal::{
            port::JournalError,
            postgres::journal::{HEADROOM, PostgresJournal},
            record::Join,
        },
        store::{
            port::{Assigned, KnownEntry, StoreError},
            redis::{
                prefetch::{Block, Prefetch, RATE_WINDOW},
                reply::parse,
                scripts::{AssignNumbers, SCRIPTS, ScriptArgs},
                subject_index::SubjectIndex,
            },
        },
        tokens::queue_token::is_anonymous,
    },
};

/// Joins that wait for their numbers at most.
pub(super) const QUEUE_MAX: usize = 32_768;
/// Joins per call at most: some milliseconds of the server's time.
pub(super) const BATCH_MAX: usize = 512;

/// Assigns numbers through Redis, below the ceiling that the journal allows.
pub(super) struct NumberAllocator {
    connection: Arc<FencedConnection>,
    journal: Arc<PostgresJournal>,
    index: SubjectIndex,
    /// How many visitors the sale takes.
    people_max: u32,
    /// The ceiling that the journal allows, as far as this node knows.
    ceiling: AtomicU32,
    /// The highest number assigned, as far as this node knows.
    issued: AtomicU32,
    prefetch: Mutex<Prefetch>,
    refill_wakeup: Notify,
    ceiling_wakeup: Notify,
}

/// The reply of `assign_numbers.lua`.
struct AssignReply {
    /// The highest number that was ever assigned.
    issued: u32,
    /// The anonymous numbers.
    anonymous: Range<u32>,
    /// The sale's last number.
    last: u32,
    /// Per customer n (newly assigned), -n (assigned before) or 0 (none left below the ceiling).
    customers: Vec<i64>,
}

impl NumberAllocator {
    pub(super) fn new(
        connection: Arc<FencedConnection>,
        journal: Arc<PostgresJournal>,
        index: SubjectIndex,
        people_max: u32,
        ceiling: u32,
    ) -> Self {
        Self {
            connection,
            journal,
            index,
            people_max,
            ceiling: AtomicU32::new(ceiling),
            issued: AtomicU32::new(0),
            prefetch: Mutex::default(),
            refill_wakeup: Notify::new(),
            ceiling_wakeup: Notify::new(),
        }
    }

    /// Sets the ceiling that the journal allows.
    pub(super) fn set_ceiling(&self, ceiling: u32) {
        self.ceiling.store(ceiling, Ordering::Relaxed);
    }

    /// A prefetched number for an anonymous visitor who joins now; `None` where there is none.
    pub(super) fn take_prefetched(&self, join: Join) -> Option<KnownEntry> {
        let epoch = self.connection.epoch()?;
        let mut prefetch = self.prefetch.lock();
        prefetch.record_join(join.joined_at);
        let number = prefetch.take(epoch, join.joined_at);
        if prefetch.is_low() {
            self.refill_wakeup.notify_one();
        }
        number.map(|number| KnownEntry {
            number,
            joined_at: join.joined_at,
        })
    }

    /// Prefetches a block whenever they run low. Never returns.
    pub(super) async fn refill_loop(&self) {
        loop {
            self.refill_wakeup.notified().await;
            self.refill().await;
        }
    }

    /// Prefetches a block. Without one each join asks Redis itself, so a failure needs no retry here.
    pub(super) async fn refill(&self) {
        let (wanted, since) = self.prefetch.lock().wanted();
        let Some(epoch) = self.connection.epoch() else {
            return;
        };
        let Ok(reply) = self.call_assign(wanted, &[], &[]).await else {
            return;
        };
        self.prefetch.lock().add(Block {
            numbers: reply.anonymous,
            epoch,
            since,
        });
        if self.ceiling.load(Ordering::Relaxed) < reply.issued.saturating_add(self.headroom() / 2) {
            self.ceiling_wakeup.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn is_low(&self) -> bool {
        self.prefetch.lock().is_low()
    }

    /// Raises the ceiling before joins reach it: otherwise all of them wait for that commit. Never returns.
    pub(super) async fn raise_ceiling_loop(&self) {
        loop {
            self.ceiling_wakeup.notified().await;
            // On failure the join that needs a higher ceiling raises it, and waits.
            let _ = self.raise_ceiling(self.issued.load(Ordering::Relaxed)).await;
        }
    }

    /// How far above the highest number the ceiling is raised: a second's worth of joins. As many numbers are
    /// skipped when Redis loses its data.
    fn headroom(&self) -> u32 {
        let windows_per_second =
            u32::try_from(Duration::from_secs(1).as_millis() / RATE_WINDOW.as_millis()).unwrap_or(1);
        let joins_per_window = self.prefetch.lock().joins_per_window();
        HEADROOM.max(joins_per_window.saturating_mul(windows_per_second))
    }

    /// Assigns a number to each join; results are in the order of the joins.
    pub(super) async fn assign(&self, joins: Vec<Join>) -> Vec<Result<Assigned, StoreError>> {
        let mut results: Vec<Option<Assigned>> = vec![None; joins.len()];
        // The second round is for joins that met the ceiling, which is raised between the two.
        for round in 0..2 {
            let open: Vec<usize> = (0..joins.len())
                .filter(|&index| results[index].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            match self.assign_round(&joins, &open, &mut results).await {
                Ok(issued) if results.iter().any(Option::is_none) && round == 0 => {
                    if let Err(error) = self.raise_ceiling(issued).await {
                        return or_error(results, error);
                    }
                }
                Ok(_) => {}
                Err(error) => return or_error(results, error),
            }
        }
        or_error(results, StoreError::Unavailable)
    }

    /// Fills in the results of the joins at `open`; returns the highest number that was ever assigned.
    async fn assign_round(
        &self,
        joins: &[Join],
        open: &[usize],
        results: &mut [Option<Assigned>],
    ) -> Result<u32, StoreError> {
        let (anonymous, customers): (Vec<usize>, Vec<usize>) = open
            .iter()
            .partition(|&&index| is_anonymous(joins[index].subject));
        let wanted = u32::try_from(anonymous.len()).unwrap_or(u32::MAX);
        let mut reply = self.call_assign(wanted, &customers, joins).await?;
        let entry = |index: usize, number: u32| KnownEntry {
            number,
            joined_at: joins[index].joined_at,
        };
        // Where the ceiling is the sale's last number none is left; else the result stays open until it is
        // raised.
        let none_left = (reply.issued >= reply.last).then_some(Assigned::Full);
        for index in anonymous {
            results[index] = match reply.anonymous.next() {
                Some(number) => Some(Assigned::New(entry(index, number))),
                None => none_left,
            };
        }
        for (index, assigned) in customers.into_iter().zip(reply.customers) {
            results[index] = match assigned {
                1.. => Some(Assigned::New(entry(index, to_number(assigned)))),
                ..=-1 => Some(Assigned::Existing {
                    entry: entry(index, to_number(-assigned)),
                    journaled: false,
                }),
                0 => none_left,
            };
        }
        Ok(reply.issued)
    }

    /// One call: `anonymous` numbers for anonymous visitors, and one for each of the customers at these
    /// indices.
    async fn call_assign(
        &self,
        anonymous: u32,
        customers: &[usize],
        joins: &[Join],
    ) -> Result<AssignReply, StoreError> {
        let args = AssignNumbers {
            max_number: self.ceiling.load(Ordering::Relaxed),
            people_max: self.people_max,
            unused: self.prefetch.lock().take_unused(),
            anonymous,
        };
        let mut call = args.append_to(Call::new().key(self.connection.key("state")));
        for &index in customers {
            let bucket = self.index.bucket(joins[index].subject);
            call = call.key(&bucket.key).arg(&bucket.field);
        }
        let mut reply: Vec<i64> = parse(self.connection.call(&SCRIPTS.assign_numbers.script, call).await?)?;
        if reply.len() != 4 + customers.len() {
            return Err(StoreError::Unavailable);
        }
        let customers = reply.split_off(4);
        let issued = to_number(reply[0]);
        self.issued.fetch_max(issued, Ordering::Relaxed);
        Ok(AssignReply {
            issued,
            anonymous: to_number(reply[1])..to_number(reply[1] + reply[2]),
            last: to_number(reply[3]),
            customers,
        })
    }

    /// The journal must know how far numbers may go before they are assigned: after a loss, numbering
    /// continues above.
    async fn raise_ceiling(&self, issued: u32) -> Result<(), StoreError> {
        let epoch = self.connection.epoch().ok_or(StoreError::Recovering)?;
        let ceiling = issued.saturating_add(self.headroom());
        match self.journal.raise_ceiling(epoch, ceiling).await {
            Ok(ceiling) => {
                self.ceiling.fetch_max(ceiling, Ordering::Relaxed);
                Ok(())
            }
            Err(JournalError::StaleEpoch) => {
                self.connection.deactivate();
                Err(StoreError::Recovering)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot assign more numbers: the journal is unavailable; joins \
                    fail until it returns");
                Err(StoreError::Unavailable)
            }
        }
    }
}

fn to_number(reply: i64) -> u32 {
    u32::try_from(reply).unwrap_or(u32::MAX)
}

fn or_error(results: Vec<Option<Assigned>>, error: StoreError) -> Vec<Result<Assigned, StoreError>> {
    results.into_iter().map(|result| result.ok_or(error)).collect()
}
