//! What everybody sees: each performance's states in memory, snapshots of them, and what changes.
//!
//! The engine's changes are taken over as they come; ten times a second what has changed is put into one frame, encoded
//! once for all who watch. A snapshot is encoded when somebody asks and kept until the next frame is out, so that a
//! snapshot at version `V` and the frames after `V` always make a whole.

use std::{
    collections::VecDeque,
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

use crate::platform::shutdown::Lifecycle;

use super::{
    plan::{Plan, gzip},
    seat::{SeatIx, SeatState, SeatStates},
    store::{SeatChange, SeatStore, StoreError},
};

/// How often frames are made.
pub(super) const FRAME_EVERY: Duration = Duration::from_millis(100);
const FRAMES_KEPT: usize = 4_096;
const FRAME_BYTES_KEPT: usize = 16 << 20;
/// Up to so many seats a snapshot is written anew after each change, a few milliseconds' work: whoever has just taken
/// seats sees them taken. The packed form is cheap at any size.
const ALWAYS_FRESH_SEATS: usize = 20_000;
/// Below this a body is sent as it is.
const GZIP_FROM: usize = 1_024;

/// A body ready to be sent, and whose it is.
#[derive(Clone, Debug)]
pub struct EncodedSnapshot {
    pub version: u64,
    /// With its quotation marks.
    pub etag: String,
    /// The body; of the packed form, its bytes.
    pub json: Bytes,
    /// The same compressed, where that is worth while.
    pub gzip: Option<Bytes>,
}

/// How many seats of a price zone are in which state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZoneStock {
    pub zone: String,
    pub free: u32,
    pub held: u32,
    pub booked: u32,
    pub blocked: u32,
}

pub(super) struct Availability {
    plan: Arc<Plan>,
    sections: Vec<Vec<SeatIx>>,
    replica: Mutex<Replica>,
    whole: Mutex<Option<EncodedSnapshot>>,
    packed: Mutex<Option<EncodedSnapshot>>,
    by_section: Vec<Mutex<Option<EncodedSnapshot>>>,
    frames: Mutex<Frames>,
    /// Wakes the watchers: the number of frames made.
    made: watch::Sender<u64>,
    watchers: AtomicUsize,
    watchers_max: usize,
    life: Lifecycle,
}

/// This node's copy of the engine's states.
struct Replica {
    version: u64,
    states: SeatStates,
    /// By zone, then by state.
    stock: Vec<[u32; 4]>,
    /// Changed since the last frame, perhaps more than once.
    changed: Vec<SeatIx>,
    buffer: Vec<SeatChange>,
}

struct Frames {
    kept: VecDeque<Frame>,
    bytes: usize,
    /// The number of the first kept one.
    first: u64,
    published: u64,
}

/// Brings whoever is at a version from `after` on to version `to`.
struct Frame {
    after: u64,
    to: u64,
    sse: Bytes,
}

/// A place among those who are told what changes; dropping it gives the place back.
pub struct SeatSubscription {
    from: Arc<Availability>,
    made: watch::Receiver<u64>,
    next: u64,
    too_old: bool,
}

impl Availability {
    pub(super) fn new(
        plan: Arc<Plan>,
        version: u64,
        states: SeatStates,
        watchers_max: usize,
        life: Lifecycle,
    ) -> Self {
        let mut sections = vec![Vec::new(); plan.sections().len()];
        let mut stock = vec![[0; 4]; plan.zones().len()];
        for seat in plan.seats() {
            sections[plan.section_index_of(seat) as usize].push(seat);
            stock[plan.zone_index_of(seat) as usize][states.get(seat) as usize] += 1;
        }
        Self {
            by_section: sections.iter().map(|_| Mutex::new(None)).collect(),
            sections,
            plan,
            replica: Mutex::new(Replica {
                version,
                states,
                stock,
                changed: Vec::new(),
                buffer: Vec::new(),
            }),
            whole: Mutex::new(None),
            packed: Mutex::new(None),
            frames: Mutex::new(Frames {
                kept: VecDeque::new(),
                bytes: 0,
                first: 0,
                published: version,
            }),
            made: watch::Sender::new(0),
            watchers: AtomicUsize::new(0),
            watchers_max,
            life,
        }
    }

    /// Takes over what the engine has changed.
    pub(super) async fn catch_up(&self, store: &dyn SeatStore) -> Result<(), StoreError> {
        if self.replica.lock().follow(&self.plan, store) {
            return Ok(());
        }
        let (version, states) = store.load().await?;
        self.replica.lock().replace(&self.plan, version, &states);
        Ok(())
    }

    /// Puts what has changed since the last time into a frame.
    pub(super) fn publish(&self) {
        let mut frames = self.frames.lock();
        let Some((version, seats)) = self.replica.lock().take_changed() else {
            return;
        };
        let mut sse = format!("id: {version}\nevent: delta\ndata: ");
        write_states(&mut sse, &self.plan, version, seats.into_iter());
        sse.push_str("\n\n");
        let after = frames.published;
        frames.add(Frame {
            after,
            to: version,
            sse: sse.into(),
        });
        let made = frames.first + frames.kept.len() as u64;
        drop(frames);
        self.made.send_replace(made);
    }

    pub(super) fn states(&self) -> SeatStates {
        self.replica.lock().states.clone()
    }

    pub(super) fn stock(&self) -> Vec<ZoneStock> {
        let stock = self.replica.lock().stock.clone();
        let zones = self.plan.zones().iter().zip(stock);
        zones
            .map(|(zone, [free, held, booked, blocked])| ZoneStock {
                zone: zone.clone(),
                free,
                held,
                booked,
                blocked,
            })
            .collect()
    }

    pub(super) fn snapshot_json(&self, section: Option<&str>) -> Option<EncodedSnapshot> {
        let Some(section) = section else {
            return Some(
                self.kept_or(&self.whole, "all", self.plan.seat_count(), |version, states| {
                    let mut json = String::with_capacity(self.plan.seat_count() * 24 + 64);
                    write_states(
                        &mut json,
                        &self.plan,
                        version,
                        self.plan.seats().map(|seat| (seat, states.get(seat))),
                    );
                    json.into()
                }),
            );
        };
        let section = self.plan.section_index(section)? as usize;
        Some(self.kept_or(
            &self.by_section[section],
            &section.to_string(),
            self.sections[section].len(),
            |version, states| {
                let mut json = String::new();
                write_states(
                    &mut json,
                    &self.plan,
                    version,
                    self.sections[section]
                        .iter()
                        .map(|seat| (*seat, states.get(*seat))),
                );
                json.into()
            },
        ))
    }

    pub(super) fn snapshot_packed(&self) -> EncodedSnapshot {
        self.kept_or(&self.packed, "packed", 0, |version, states| {
            let mut packed = version.to_le_bytes().to_vec();
            packed.extend(
                u32::try_from(states.seat_count())
                    .unwrap_or(u32::MAX)
                    .to_le_bytes(),
            );
            packed.extend(states.to_bytes());
            packed.into()
        })
    }

    /// `None` when as many watch as may.
    pub(super) fn watch(self: &Arc<Self>, after: Option<u64>) -> Option<SeatSubscription> {
        let one_more = |watchers| (watchers < self.watchers_max).then_some(watchers + 1);
        self.watchers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        let made = self.made.subscribe();
        let frames = self.frames.lock();
        let version = self.replica.lock().version;
        let oldest = frames.kept.front().map_or(frames.published, |it| it.after);
        let too_old = after.is_some_and(|after| after < oldest || after > version);
        let known = after.filter(|_| !too_old).unwrap_or(frames.published);
        let next = frames.first + frames.kept.partition_point(|it| it.to <= known) as u64;
        drop(frames);
        Some(SeatSubscription {
            from: Arc::clone(self),
            made,
            next,
            too_old,
        })
    }

    /// The kept snapshot if nothing has changed since, else a new one; of a large plan the kept one serves until the
    /// next frame. Who comes while one is made waits for it.
    fn kept_or(
        &self,
        slot: &Mutex<Option<EncodedSnapshot>>,
        form: &str,
        seats: usize,
        encode: impl FnOnce(u64, &SeatStates) -> Bytes,
    ) -> EncodedSnapshot {
        let mut slot = slot.lock();
        let changed_at = if seats <= ALWAYS_FRESH_SEATS {
            self.replica.lock().version
        } else {
            self.frames.lock().published
        };
        if let Some(kept) = slot.as_ref().filter(|it| it.version >= changed_at) {
            return kept.clone();
        }
        let (version, states) = {
            let replica = self.replica.lock();
            (replica.version, replica.states.clone())
        };
        let json = encode(version, &states);
        let gzip = (json.len() >= GZIP_FROM).then(|| gzip(&json, Compression::fast()));
        let etag = format!("\"{version:x}-{}-{form}\"", self.plan.hash());
        slot.insert(EncodedSnapshot {
            version,
            etag,
            json,
            gzip,
        })
        .clone()
    }
}

impl SeatSubscription {
    /// The next server-sent event, whole: `delta` with the seats that changed, or `reset` when what changed in between is
    /// no longer known and a new snapshot must be fetched. `None` when the house closes.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.from.life.is_stopping() {
                return None;
            }
            self.made.borrow_and_update();
            if let Some(sse) = self.take() {
                return Some(sse);
            }
            tokio::select! {
                () = self.from.life.stopping() => return None,
                changed = self.made.changed() => changed.ok()?,
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let frames = self.from.frames.lock();
        if self.too_old || self.next < frames.first {
            self.too_old = false;
            self.next = frames.first + frames.kept.len() as u64;
            let version = frames.published;
            return Some(format!("id: {version}\nevent: reset\ndata: {{\"version\":{version}}}\n\n").into());
        }
        let at = usize::try_from(self.next - frames.first).ok()?;
        let sse = frames.kept.get(at)?.sse.clone();
        self.next += 1;
        Some(sse)
    }
}

impl Drop for SeatSubscription {
    fn drop(&mut self) {
        self.from.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Replica {
    /// `false` when the engine remembers less than is needed.
    fn follow(&mut self, plan: &Plan, store: &dyn SeatStore) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let known = store.changes_since(self.version, &mut buffer);
        for change in &buffer {
            self.set(plan, change.seat, change.state);
        }
        self.version = buffer.last().map_or(self.version, |it| it.version);
        self.buffer = buffer;
        known
    }

    fn replace(&mut self, plan: &Plan, version: u64, states: &SeatStates) {
        if version < self.version {
            return;
        }
        for seat in plan.seats() {
            self.set(plan, seat, states.get(seat));
        }
        self.version = version;
    }

    fn set(&mut self, plan: &Plan, seat: SeatIx, state: SeatState) {
        let before = self.states.get(seat);
        if before != state {
            let stock = &mut self.stock[plan.zone_index_of(seat) as usize];
            stock[before as usize] -= 1;
            stock[state as usize] += 1;
            self.states.set(seat, state);
            self.changed.push(seat);
        }
    }

    fn take_changed(&mut self) -> Option<(u64, Vec<(SeatIx, SeatState)>)> {
        if self.changed.is_empty() {
            return None;
        }
        let mut seats = std::mem::take(&mut self.changed);
        seats.sort_unstable();
        seats.dedup();
        Some((
            self.version,
            seats
                .into_iter()
                .map(|seat| (seat, self.states.get(seat)))
                .collect(),
        ))
    }
}

impl Frames {
    fn add(&mut self, frame: Frame) {
        self.published = frame.to;
        self.bytes += frame.sse.len();
        self.kept.push_back(frame);
        while self.kept.len() > FRAMES_KEPT || (self.bytes > FRAME_BYTES_KEPT && self.kept.len() > 1) {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.sse.len();
            self.first += 1;
        }
    }
}

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
