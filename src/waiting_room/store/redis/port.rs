//! The Redis store's implementation of the port.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use redis::Value;

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::Call,
    waiting_room::{
        admission::{
            lanes::{ASK_AGAIN, ASK_AGAIN_FAR, CLAIM_LAPSE, CLAIMANTS_MAX, SURGE},
            policy::whole,
        },
        forecast::visit_length::VisitsOutlook,
        journal::record::{Event, Join, Promise, Record, Stored},
        state::{Counts, Settings, Situation},
        status::{people_ahead::Survivors, presence::Heard},
        store::{
            memory::Progress,
            port::{
                EndedVisit, EntryAsk, Finished, Found, Moment, Numbered, PassGrant, QueueStore,
                Reservation, SLOT_GRACE, SharedBoard, Standing, Stock, StoreError,
            },
            redis::{
                record_effects::Effect,
                reply::{millis, read},
                scripts::SCRIPTS,
                store::{CLAIMS, RedisStore},
            },
        },
        tokens::queue_token::is_stranger,
        types::{BoxOfficeHealth, Inside, ZoneStock},
    },
};
/// A reserved slot whose entry is not written down within this time is given back.
const ENTRY_LAPSE: Duration = Duration::from_secs(10);
/// An end that is not written down within this time is handed out again.
const END_AGAIN: Duration = Duration::from_secs(5);
const FINISHED_AT_ONCE: usize = 500;
/// A node that is silent for so long counts no more when a slot is freed: it is dead, or its passes lapse by themselves.
const NODE_SILENT: Duration = Duration::from_secs(5);
/// How long a node may be silent before another one calls.
const CALLER_LEASE: Duration = Duration::from_millis(400);
/// What `situation.lua` returns.
type Told = (
    u32,
    u64,
    u32,
    u32,
    u32,
    u32,
    u8,
    String,
    u64,
    Vec<u32>,
    Vec<u32>,
    Vec<String>,
);

#[async_trait]
impl QueueStore for RedisStore {
    async fn number(&self, join: Join) -> Result<Numbered, StoreError> {
        if is_stranger(join.subject)
            && let Some(found) = self.numbering.at_hand(join)
        {
            return Ok(Numbered::New(found));
        }
        let numbered = self.desk.submit(join).await.map_err(|_| StoreError::Away)??;
        Ok(match numbered {
            Numbered::Had { found, .. } => {
                let known = self
                    .mirror
                    .known(join.subject)
                    .filter(|known| known.number == found.number);
                Numbered::Had {
                    found: known.unwrap_or(found),
                    written: known.is_some(),
                }
            }
            other => other,
        })
    }

    async fn give_up(&self, subject: u64, arrival: u32) -> Result<(), StoreError> {
        let bucket = self.layout().bucket(subject);
        self.line
            .call(
                &SCRIPTS.give_up,
                Call::new().key(&bucket.key).arg(&bucket.field).arg(arrival),
            )
            .await?;
        Ok(())
    }

    async fn adopt(&self, promised: &[Promise]) -> Result<Vec<Promise>, StoreError> {
        // A stranger has no other number by now: nobody else goes by her name.
        let (mut stand, customers): (Vec<Promise>, Vec<Promise>) =
            promised.iter().partition(|it| is_stranger(it.join.subject));
        if customers.is_empty() {
            return Ok(stand);
        }
        let layout = self.layout();
        let mut call = Call::new();
        for (place, promise) in (1_usize..).zip(&customers) {
            let bucket = layout.bucket(promise.join.subject);
            call = call
                .key(&bucket.key)
                .arg(place)
                .arg(&bucket.field)
                .arg(promise.number);
        }
        let still: Vec<u8> = read(self.line.call(&SCRIPTS.adopt, call).await?)?;
        stand.extend(
            customers
                .into_iter()
                .zip(still)
                .filter(|(_, still)| *still == 1)
                .map(|(promise, _)| promise),
        );
        Ok(stand)
    }

    async fn apply(&self, records: &[Stored], at: Moment) -> Result<(), StoreError> {
        let layout = self.layout();
        // What numbers mean after a draw, the mirror knows only when it has held it.
        for part in records.split_inclusive(|it| {
            matches!(
                it.record,
                Record::Event {
                    event: Event::Drawn(_),
                    ..
                }
            )
        }) {
            // What a leaver's bucket is, it knows only while she has not left.
            let mut door = self.mirror.settings();
            let effects: Vec<Effect> = part
                .iter()
                .filter_map(|it| Effect::of(it, &self.mirror, &mut door, &self.config, &layout))
                .collect();
            self.mirror.apply(part, at).await?;
            self.pending.lock().effects.extend(effects);
            if let Some(last) = part.last() {
                self.followed.store(last.seq, Ordering::Release);
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.feed(at.now).await {
            // The journal has them, so they are so; Redis follows with the next tick, or is rebuilt.
            tracing::debug!(%error, "the engine does not follow the journal at this moment");
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn is_complete(&self) -> bool {
        self.line.epoch().is_some()
    }

    fn is_stale(&self) {
        self.line.distrust();
        self.look.notify_one();
    }

    async fn recovered(&self, _at: Moment) -> Result<(), StoreError> {
        // The engine knows until when passes are good; where it has forgotten, the rebuild takes them to be fresh.
        self.look.notify_one();
        Ok(())
    }

    async fn reserve(&self, ask: &EntryAsk, at: Moment) -> Result<Reservation, StoreError> {
        let lane = match self.mirror.standing(ask.number, at) {
            Standing::Left => return Ok(Reservation::Left),
            Standing::PassedOver => "r",
            // Whether she is called yet, the script knows better than the mirror.
            Standing::Waiting | Standing::Called { .. } | Standing::Entered => "c",
        };
        let coming = self.mirror.situation(at).await?.outlook.coming;
        let call = self
            .keys(&[&["state", "visits", "by_number", "ends"][..], &CLAIMS].concat())
            .arg(self.time(at.now))
            .arg(ask.number)
            .arg(ask.visit.as_uuid().as_bytes())
            .arg(lane)
            .arg(whole(coming))
            .arg(millis(self.config.pass_life))
            .arg(millis(ENTRY_LAPSE))
            .arg(millis(CLAIM_LAPSE))
            .arg(CLAIMANTS_MAX)
            .arg(u8::from(ask.inside == Inside::Late))
            .arg(millis(*ASK_AGAIN.start()))
            .arg(millis(*ASK_AGAIN.end()))
            .arg(millis(ASK_AGAIN_FAR))
            .arg(SURGE);
        let answer: Vec<Vec<u8>> = read(self.line.call(&SCRIPTS.reserve, call).await?)?;
        let answer: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
        Ok(match answer.as_slice() {
            [b"reserved", at] => Reservation::Reserved { at: time_of(at)? },
            [b"inside", visit] => Reservation::Inside {
                visit: visit_of(visit).ok_or(StoreError::Away)?,
            },
            [b"not_called"] => Reservation::NotCalledYet,
            [b"left"] => Reservation::Left,
            [b"no_room", again_ms] => {
                let again_ms: u64 = read(Value::BulkString(again_ms.to_vec()))?;
                Reservation::NoRoom {
                    ask_again: Duration::from_millis(again_ms),
                }
            }
            _ => return Err(StoreError::Away),
        })
    }

    async fn give_back(&self, visit: VisitId) -> Result<(), StoreError> {
        let call = self
            .keys(&["state", "visits", "by_number", "ends"])
            .arg(self.time(Timestamp::default()))
            .arg(visit.as_uuid().as_bytes());
        self.line.call(&SCRIPTS.give_back, call).await?;
        Ok(())
    }

    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError> {
        let call = self
            .keys(&["visits", "ends"])
            .arg(self.time(now))
            .arg(visit.as_uuid().as_bytes())
            .arg(millis(self.config.pass_life))
            .arg(millis(self.config.visit_max))
            .arg(millis(SLOT_GRACE));
        let expires_ms: i64 = read(self.line.call(&SCRIPTS.grant, call).await?)?;
        let generation = self.mirror.settings().pass_generation;
        Ok((expires_ms > 0).then(|| PassGrant {
            expires_at: Timestamp::from_millis(expires_ms),
            generation,
        }))
    }

    async fn end_visits(&self, named: &[VisitId], now: Timestamp) -> Result<Vec<EndedVisit>, StoreError> {
        let mut call = self
            .keys(&["visits", "ends"])
            .arg(self.time(now))
            .arg(millis(END_AGAIN))
            .arg(FINISHED_AT_ONCE);
        for visit in named {
            call = call.arg(visit.as_uuid().as_bytes());
        }
        let rows: Vec<(Vec<u8>, u32, Vec<u8>)> = read(self.line.call(&SCRIPTS.finish, call).await?)?;
        let ended = |(id, number, how): &(Vec<u8>, u32, Vec<u8>)| {
            let how = if how == b"l" {
                Finished::Lapsed
            } else {
                Finished::Ended
            };
            Some(EndedVisit {
                visit: visit_of(id)?,
                number: *number,
                how,
            })
        };
        let mut ended: Vec<EndedVisit> = rows.iter().filter_map(ended).collect();
        ended.sort_unstable_by_key(|it| it.number);
        self.mirror.are(&ended, Progress::Ending);
        Ok(ended)
    }

    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError> {
        let call = ended.iter().fold(
            self.keys(&["visits", "ends"]).arg(millis(SLOT_GRACE)),
            |call, it| call.arg(it.visit.as_uuid().as_bytes()),
        );
        self.line.call(&SCRIPTS.reopen, call).await?;
        self.mirror.are(ended, Progress::Inside);
        Ok(())
    }

    async fn situation(&self, at: Moment) -> Result<Situation, StoreError> {
        let mirrored = self.mirror.situation(at).await?;
        let kept: Vec<(VisitId, Timestamp)> = self.kept.lock().drain().collect();
        let said = std::mem::take(&mut *self.said.lock());
        let mut call = self
            .keys(&[
                "state",
                "visits",
                "ends",
                "called",
                "called_asked",
                "returners",
                "returners_asked",
                "gone",
                "nodes",
                "nodes_seen",
                "caller",
                "stock",
            ])
            .arg(self.time(at.now))
            .arg(millis(CLAIM_LAPSE))
            .arg(millis(SLOT_GRACE))
            .arg(millis(NODE_SILENT))
            .arg(&self.node)
            .arg(self.followed.load(Ordering::Acquire))
            .arg(u8::from(self.config.passes_checked_elsewhere))
            .arg(millis(CALLER_LEASE))
            .arg(said.zones.unwrap_or_default())
            .arg(said.healths.len());
        for (source, health) in &said.healths {
            call = call.arg(source).arg(health);
        }
        for (visit, until) in &kept {
            call = call.arg(visit.as_uuid().as_bytes()).arg(until.as_millis());
        }
        let answer = match self.line.call(&SCRIPTS.situation, call).await {
            Ok(answer) => answer,
            Err(error) => {
                // Whose payment is under way must not lose her visit to a tick that failed.
                self.kept.lock().extend(kept);
                return Err(error.into());
            }
        };
        let (
            now_serving,
            applied,
            active,
            permits,
            claimants,
            returners,
            caller,
            zones,
            age_ms,
            called,
            returning,
            healths,
        ): Told = read(answer)?;
        self.active.store(active, Ordering::Relaxed);
        self.claimants.store(claimants, Ordering::Relaxed);
        self.returners.store(returners, Ordering::Relaxed);
        if !zones.is_empty() {
            let age = Duration::from_millis(age_ms);
            let healths = healths
                .iter()
                .filter_map(|text| serde_json::from_str(text).ok())
                .collect();
            *self.stock.lock() = serde_json::from_str(&zones)
                .ok()
                .map(|zones| Stock { zones, age, healths });
        }
        self.mirror.saw_claimants(&called, &returning, at);
        {
            let mut pending = self.pending.lock();
            pending.applied = pending.applied.max(applied);
        }
        self.feed(at.now).await?;
        Ok(Situation {
            active,
            permits,
            claimants,
            returners,
            is_caller: caller == 1 && now_serving == self.mirror.now_serving(),
            ..mirrored
        })
    }

    async fn reach(&self, count: u32) -> Result<u32, StoreError> {
        self.mirror.reach(count).await
    }

    async fn share_board(
        &self,
        seen: u64,
        own: Option<(u64, &[u8])>,
    ) -> Result<Option<SharedBoard>, StoreError> {
        let (version, json) = own.unwrap_or((0, b""));
        let call = self
            .keys(&["board"])
            .arg(self.time(Timestamp::default()))
            .arg(seen)
            .arg(version)
            .arg(json);
        let (version, json, age_ms): (u64, Vec<u8>, u64) = read(self.line.call(&SCRIPTS.board, call).await?)?;
        Ok(Some(SharedBoard {
            version,
            json,
            age: Duration::from_millis(age_ms),
        }))
    }

    async fn share_presence(&self, heard: &[Heard]) -> Result<Vec<Heard>, StoreError> {
        let mut call = self
            .keys(&["present"])
            .arg(self.time(Timestamp::default()))
            .arg(self.heard_to_ms.load(Ordering::Relaxed));
        for Heard { number, until } in heard {
            call = call.arg(format!("{number} {}", until.as_millis()));
        }
        let (now_ms, told): (i64, Vec<String>) = read(self.line.call(&SCRIPTS.present, call).await?)?;
        self.heard_to_ms.store(now_ms, Ordering::Relaxed);
        let heard = |told: &String| {
            let (number, until) = told.split_once(' ')?;
            Some(Heard {
                number: number.parse().ok()?,
                until: Timestamp::from_millis(until.parse().ok()?),
            })
        };
        Ok(told.iter().filter_map(heard).collect())
    }

    fn report(&self, source: &str, zones: Option<&[ZoneStock]>, health: Option<BoxOfficeHealth>) {
        let mut said = self.said.lock();
        if let Some(zones) = zones {
            said.zones = serde_json::to_string(zones).ok();
        }
        if let Some(health) = health.and_then(|health| serde_json::to_string(&health).ok()) {
            said.healths.insert(source.to_owned(), health);
        }
    }

    fn stock(&self) -> Option<Stock> {
        self.stock.lock().clone()
    }

    fn known(&self, subject: u64) -> Option<Found> {
        self.mirror.known(subject)
    }

    fn owner(&self, number: u32) -> Option<u64> {
        self.mirror.owner(number)
    }

    fn is_of(&self, number: u32, subject: u64) -> bool {
        self.mirror.is_of(number, subject)
    }

    fn standing(&self, number: u32, at: Moment) -> Standing {
        self.mirror.standing(number, at)
    }

    fn visit_of(&self, number: u32) -> Option<VisitId> {
        self.mirror.visit_of(number)
    }

    fn is_inside(&self, visit: VisitId, generation: u32) -> bool {
        self.mirror.is_inside(visit, generation)
    }

    fn keep_visit(&self, visit: VisitId, until: Timestamp) {
        let mut kept = self.kept.lock();
        let kept = kept.entry(visit).or_insert(until);
        *kept = (*kept).max(until);
    }

    fn settings(&self) -> Settings {
        self.mirror.settings()
    }

    fn now_serving(&self) -> u32 {
        self.mirror.now_serving()
    }

    fn survivors(&self) -> Survivors {
        self.mirror.survivors()
    }

    fn asked(&self, near: u32) -> Vec<u32> {
        self.mirror.asked(near)
    }

    fn counts(&self, at: Moment) -> Counts {
        self.overlay(self.mirror.counts(at))
    }

    fn visits(&self, now: Timestamp) -> VisitsOutlook {
        self.mirror.visits(now)
    }
}

fn time_of(ms: &[u8]) -> Result<Timestamp, StoreError> {
    read(Value::BulkString(ms.to_vec())).map(Timestamp::from_millis)
}

fn visit_of(id: &[u8]) -> Option<VisitId> {
    uuid::Uuid::from_slice(id).ok().map(VisitId::from_uuid)
}
