//! Encodes snapshots and frames, and feeds subscribers.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use flate2::Compression;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::platform::{
    blocking_work::BlockingWork,
    shutdown::{Lifecycle, TaskPanicked},
};

use crate::seating::{
    allocation::reservable::ReservableSeats,
    availability::{
        frames::{Frame, Frames},
        replica::Replica,
    },
    gzip::gzip,
    plan::Plan,
    seat::{SeatIx, SeatState, SeatStates},
    store::SeatStore,
    types::StoreError,
};

/// How often changes are published as one frame.
pub(crate) const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// Up to this many seats a JSON snapshot is encoded anew after each change, which takes a tenth of a
/// millisecond: customers see their own change at once. Larger ones take milliseconds and are encoded once a
/// frame, off the threads that serve requests; the packed form is always fresh.
const ALWAYS_FRESH_SEATS: usize = 1_000;
/// Encodes large snapshots. One at a time, whatever the number of performances and sections.
static LARGE_SNAPSHOTS: BlockingWork = BlockingWork::new(1);
/// Smaller bodies are sent uncompressed.
const GZIP_MIN_BYTES: usize = 1_024;

/// A response body with its validators.
#[derive(Clone, Debug)]
pub struct EncodedSnapshot {
    /// The version of the states in the body.
    pub version: u64,
    /// The entity tag with its quotation marks. It differs between versions, plans and forms.
    pub etag: String,
    /// The uncompressed body: JSON, or bytes for the packed form.
    pub body: Bytes,
    /// The body compressed with gzip, if it is large enough.
    pub gzip: Option<Bytes>,
}

/// How many seats of one price zone are in each state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZoneStock {
    /// The price zone's name.
    pub zone: String,
    /// Seats that any visitor can hold.
    pub free: u32,
    /// Seats that only visitors with a wheelchair and their companions can hold.
    pub free_for_wheelchairs: u32,
    /// Seats in a hold or being paid.
    pub held: u32,
    /// Sold seats.
    pub booked: u32,
    /// Seats withheld from sale.
    pub blocked: u32,
}

/// Snapshots, frames and subscribers of one performance.
pub(crate) struct Availability {
    plan: Arc<Plan>,
    all: JsonSnapshot,
    sections: Vec<JsonSnapshot>,
    reservable: ReservableSeats,
    packed_cache: Mutex<Option<EncodedSnapshot>>,
    replica: Mutex<Replica>,
    frames: Mutex<Frames>,
    /// Number that the next frame will get; a new value wakes the subscribers.
    next_frame: watch::Sender<u64>,
    subscribers: AtomicUsize,
    subscribers_max: usize,
    lifecycle: Lifecycle,
}

/// The JSON snapshot of some seats.
struct JsonSnapshot {
    /// Part of the entity tag.
    form: String,
    seats: Arc<[SeatIx]>,
    /// Locked while encoding, so that concurrent requests wait for one encoding instead of all doing the same
    /// work. They wait without a thread.
    cache: tokio::sync::Mutex<Option<EncodedSnapshot>>,
}

/// One subscriber of the seat changes. Dropping it frees its slot.
pub struct SeatSubscription {
    availability: Arc<Availability>,
    frame_made: watch::Receiver<u64>,
    /// Number of the next frame to send.
    next: u64,
    /// The subscriber's version cannot be resumed from: a `reset` event comes first.
    needs_reset: bool,
}

impl Availability {
    pub(crate) fn new(
        plan: Arc<Plan>,
        version: u64,
        states: SeatStates,
        subscribers_max: usize,
        lifecycle: Lifecycle,
    ) -> Self {
        let mut sections = vec![Vec::new(); plan.sections().len()];
        for seat in plan.seats() {
            sections[plan.section_index_of(seat) as usize].push(seat);
        }
        let sections = sections.into_iter().enumerate();
        Self {
            all: JsonSnapshot::new("all".to_owned(), plan.seats().collect()),
            sections: sections
                .map(|(index, seats)| JsonSnapshot::new(index.to_string(), seats))
                .collect(),
            reservable: ReservableSeats::of(&plan),
            replica: Mutex::new(Replica::new(&plan, version, states)),
            plan,
            packed_cache: Mutex::new(None),
            frames: Mutex::new(Frames::new(version)),
            next_frame: watch::Sender::new(0),
            subscribers: AtomicUsize::new(0),
            subscribers_max,
            lifecycle,
        }
    }

    /// Applies the store's changes to the replica; loads everything when the change log does not reach back
    /// far enough.
    pub(crate) async fn catch_up(&self, store: &dyn SeatStore) -> Result<(), StoreError> {
        if self.replica.lock().apply_changes(&self.plan, store) {
            return Ok(());
        }
        let (version, states) = store.load().await?;
        self.replica.lock().replace(&self.plan, version, &states);
        Ok(())
    }

    /// Makes a frame of what has changed since the last one, if anything has.
    pub(crate) fn publish(&self) {
        // Lock order: frames before replica, here and in `subscribe`. The frame lock is held meanwhile, so
        // that no subscriber can see a version whose frame is not queued yet.
        let mut frames = self.frames.lock();
        let Some(delta) = self.replica.lock().take_delta() else {
            return;
        };
        let mut sse = format!("id: {}\nevent: delta\ndata: ", delta.version);
        write_states(&mut sse, &self.plan, delta.version, delta.seats.into_iter());
        sse.push_str("\n\n");
        let after = frames.published();
        frames.push(Frame {
            after,
            to: delta.version,
            sse: sse.into(),
        });
        let next_number = frames.next_number();
        drop(frames);
        self.next_frame.send_replace(next_number);
    }

    /// A copy of the states as this node knows them.
    pub(crate) fn states(&self) -> SeatStates {
        self.replica.lock().states.clone()
    }

    /// Seats by price zone and state, in the plan's order of zones.
    pub(crate) fn stock(&self) -> Vec<ZoneStock> {
        let (stock, reserved) = {
            let replica = self.replica.lock();
            let reserved = self.reservable.count_free(&self.plan, &replica.states);
            (replica.stock.clone(), reserved)
        };
        let zones = self.plan.zones().iter().zip(stock).zip(reserved);
        zones
            .map(|((zone, [free, held, booked, blocked]), reserved)| ZoneStock {
                zone: zone.clone(),
                free: free - reserved,
                free_for_wheelchairs: reserved,
                held,
                booked,
                blocked,
            })
            .collect()
    }

    /// All seats or one section's as JSON; `None` when there is no such section.
    ///
    /// # Errors
    /// The process has stopped.
    pub(crate) async fn snapshot_json(
        &self,
        section: Option<&str>,
    ) -> Result<Option<EncodedSnapshot>, TaskPanicked> {
        let snapshot = match section {
            None => &self.all,
            Some(section) => match self.plan.section_index(section) {
                Some(index) => &self.sections[index as usize],
                None => return Ok(None),
            },
        };
        let JsonSnapshot { form, seats, cache } = snapshot;
        let mut cache = cache.lock().await;
        let is_large = seats.len() > ALWAYS_FRESH_SEATS;
        let changed_at = if is_large {
            self.frames.lock().published()
        } else {
            self.replica.lock().version
        };
        if let Some(cached) = cache.as_ref().filter(|cached| cached.version >= changed_at) {
            return Ok(Some(cached.clone()));
        }
        let (version, states) = self.version_and_states();
        let (plan, etag, seats) = (
            Arc::clone(&self.plan),
            self.etag(version, form),
            Arc::clone(seats),
        );
        let encode = move || {
            let mut json = String::with_capacity(seats.len() * 24 + 64);
            let seats = seats.iter().map(|seat| (*seat, states.get(*seat)));
            write_states(&mut json, &plan, version, seats);
            EncodedSnapshot::new(version, etag, json.into())
        };
        let encoded = if is_large {
            LARGE_SNAPSHOTS.run(encode).await?
        } else {
            encode()
        };
        Ok(Some(cache.insert(encoded).clone()))
    }

    /// All seats in the packed form. Encoding it is cheap at any size, so it is always fresh.
    pub(crate) fn snapshot_packed(&self) -> EncodedSnapshot {
        let mut cache = self.packed_cache.lock();
        let changed_at = self.replica.lock().version;
        if let Some(cached) = cache.as_ref().filter(|cached| cached.version >= changed_at) {
            return cached.clone();
        }
        let (version, states) = self.version_and_states();
        let seat_count = u32::try_from(states.seat_count()).unwrap_or(u32::MAX);
        let mut packed = version.to_le_bytes().to_vec();
        packed.extend(seat_count.to_le_bytes());
        packed.extend(states.to_bytes());
        let encoded = EncodedSnapshot::new(version, self.etag(version, "packed"), packed.into());
        cache.insert(encoded).clone()
    }

    /// Subscribes from version `after`, or from now on. `None` when the subscriber limit is reached.
    pub(crate) fn subscribe(self: &Arc<Self>, after: Option<u64>) -> Option<SeatSubscription> {
        let one_more = |count| (count < self.subscribers_max).then_some(count + 1);
        self.subscribers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        let frame_made = self.next_frame.subscribe();
        let frames = self.frames.lock();
        let version = self.replica.lock().version;
        // Too old: its frames are gone. Too new: it comes from another dataset.
        let needs_reset = after.is_some_and(|after| after < frames.oldest_version() || after > version);
        let known = after
            .filter(|_| !needs_reset)
            .unwrap_or_else(|| frames.published());
        let next = frames.number_after(known);
        drop(frames);
        Some(SeatSubscription {
            availability: Arc::clone(self),
            frame_made,
            next,
            needs_reset,
        })
    }

    fn version_and_states(&self) -> (u64, SeatStates) {
        let replica = self.replica.lock();
        (replica.version, replica.states.clone())
    }

    fn etag(&self, version: u64, form: &str) -> String {
        format!("\"{version:x}-{}-{form}\"", self.plan.hash())
    }
}

impl JsonSnapshot {
    fn new(form: String, seats: Vec<SeatIx>) -> Self {
        Self {
            form,
            seats: seats.into(),
            cache: tokio::sync::Mutex::new(None),
        }
    }
}

impl EncodedSnapshot {
    fn new(version: u64, etag: String, body: Bytes) -> Self {
        let gzip = (body.len() >= GZIP_MIN_BYTES).then(|| gzip(&body, Compression::fast()));
        Self {
            version,
            etag,
            body,
            gzip,
        }
    }
}

impl SeatSubscription {
    /// The next server-sent event, complete with its blank line.
    ///
    /// `delta` carries the changed seats. `reset` means that the changes since the subscriber's version are
    /// no longer known: the client must fetch a new snapshot. `None` when the process stops.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.availability.lifecycle.is_stopping() {
                return None;
            }
            // Marks the present value as seen before looking, so that a frame made in between still wakes
            // this task.
            self.frame_made.borrow_and_update();
            if let Some(sse) = self.take_ready() {
                return Some(sse);
            }
            tokio::select! {
                () = self.availability.lifecycle.stopping() => return None,
                changed = self.frame_made.changed() => changed.ok()?,
            }
        }
    }

    fn take_ready(&mut self) -> Option<Bytes> {
        let frames = self.availability.frames.lock();
        if self.needs_reset || self.next < frames.first_number() {
            self.needs_reset = false;
            self.next = frames.next_number();
            let version = frames.published();
            return Some(format!("id: {version}\nevent: reset\ndata: {{\"version\":{version}}}\n\n").into());
        }
        let sse = frames.get(self.next)?.sse.clone();
        self.next += 1;
        Some(sse)
    }
}

impl Drop for SeatSubscription {
    fn drop(&mut self) {
        self.availability.subscribers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Writes `{"version": ..., "seats": {guid: state, ...}}`.
fn write_states(
    json: &mut String,
    plan: &Plan,
    version: u64,
    seats: impl Iterator<Item = (SeatIx, SeatState)>,
) {
    let _ = write!(json, "{{\"version\":{version},\"seats\":{{");
    for (i, (seat, state)) in seats.enumerate() {
        if i > 0 {
            json.push(',');
        }
        json.push_str(plan.guid_json(seat));
        json.push_str(":\"");
        json.push_str(state.as_str());
        json.push('"');
    }
    json.push_str("}}");
}
