//! The Redis store's implementation of the port.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::Call,
    waiting_room::{
        admission::{
            call_policy::round_to_count,
            reserve_slot::{CLAIM_LAPSE, CLAIMANTS_MAX, RETRY_AFTER, RETRY_AFTER_FAR, SPEEDUP_MAX},
        },
        forecast::visit_length::VisitForecast,
        journal::record::{Join, PendingJoin, StoredRecord},
        state::{AdmissionState, Counts, Settings},
        status::{people_ahead::PeopleAhead, presence::Heartbeat},
        store::{
            memory::state::VisitProgress,
            port::{
                Assigned, EndReason, EndedVisit, KnownEntry, Moment, NumberState, PassGrant, QueueStore,
                Reservation, SLOT_GRACE, SharedStatus, SlotRequest, Stock, StoreError,
            },
            redis::{
                reply::{millis, parse, reservation_of, visit_of},
                scripts::{
                    AbandonNumber, CountBehind, EndVisits, GrantPass, ReinstateNumbers, ReleaseSlot,
                    ReopenVisits, ReserveSlot, SCRIPTS, ScriptArgs, ShareHeartbeats, ShareStatus,
                },
                store::RedisStore,
            },
        },
        tokens::queue_token::is_anonymous,
        types::{BoxOfficeHealth, BoxOfficeLoad, ZoneStock},
    },
};

/// A reserved slot whose entry is not journaled within this time is released.
const RESERVATION_TTL: Duration = Duration::from_secs(10);
/// A visit whose end is not journaled within this time is handed out again.
const END_RETRY: Duration = Duration::from_secs(5);
/// Nodes report what they have applied with each tick.
const KNOWN_POLL_INTERVAL: Duration = Duration::from_millis(20);
const KNOWN_EVERYWHERE_MAX: Duration = Duration::from_secs(1);
/// Bounds how long one `end_visits.lua` may block the server.
const ENDED_AT_ONCE: usize = 500;

#[async_trait]
impl QueueStore for RedisStore {
    async fn assign_number(&self, join: Join) -> Result<Assigned, StoreError> {
        if is_anonymous(join.subject)
            && let Some(entry) = self.allocator.take_prefetched(join)
        {
            return Ok(Assigned::New(entry));
        }
        let assigned = self
            .number_batcher
            .submit(join)
            .await
            .map_err(|_| StoreError::Unavailable)??;
        Ok(match assigned {
            // Redis knows only the number; when the subject joined, and whether that is journaled, the mirror
            // knows.
            Assigned::Existing { entry, .. } => {
                let mirrored = self
                    .mirror
                    .find_by_subject(join.subject)
                    .filter(|mirrored| mirrored.number == entry.number);
                Assigned::Existing {
                    entry: mirrored.unwrap_or(entry),
                    journaled: mirrored.is_some(),
                }
            }
            other => other,
        })
    }

    async fn abandon_number(&self, subject: u64, arrival: u32) -> Result<(), StoreError> {
        let bucket = self.layout().bucket(subject);
        let args = AbandonNumber {
            field: bucket.field,
            number: arrival,
        };
        let call = args.append_to(Call::new().key(&bucket.key));
        self.connection.call(&SCRIPTS.abandon_number.script, call).await?;
        Ok(())
    }

    async fn reinstate_numbers(&self, promised: &[PendingJoin]) -> Result<Vec<PendingJoin>, StoreError> {
        // An anonymous subject cannot have another number by now: its key is made for one join.
        let (mut reinstated, customers): (Vec<PendingJoin>, Vec<PendingJoin>) =
            promised.iter().partition(|join| is_anonymous(join.join.subject));
        if customers.is_empty() {
            return Ok(reinstated);
        }
        let layout = self.layout();
        let mut call = ReinstateNumbers {}.append_to(Call::new());
        for (key_index, join) in (1_usize..).zip(&customers) {
            let bucket = layout.bucket(join.join.subject);
            call = call
                .key(&bucket.key)
                .arg(key_index)
                .arg(&bucket.field)
                .arg(join.number);
        }
        let replies: Vec<u8> = parse(
            self.connection
                .call(&SCRIPTS.reinstate_numbers.script, call)
                .await?,
        )?;
        reinstated.extend(
            customers
                .into_iter()
                .zip(replies)
                .filter(|(_, reply)| *reply == 1)
                .map(|(join, _)| join),
        );
        Ok(reinstated)
    }

    async fn apply(&self, records: &[StoredRecord], at: Moment) -> Result<(), StoreError> {
        self.apply_to_mirror(records, at).await?;
        if records.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.replay(at.now).await {
            // The journal has the records, so they stand; Redis gets them with the next tick, or is rebuilt.
            tracing::debug!(sale = %self.config.sale, %error, "Redis lags behind the journal; the next \
                tick retries");
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn is_complete(&self) -> bool {
        self.connection.epoch().is_some()
    }

    fn mark_stale(&self) {
        self.connection.deactivate();
        self.recovery_wakeup.notify_one();
    }

    fn is_copy(&self) -> bool {
        true
    }

    async fn wait_until_known_everywhere(&self) {
        let seq = self.mirrored_seq.load(Ordering::Acquire);
        let known = async {
            loop {
                let args = CountBehind {
                    node: self.node.clone(),
                    seq,
                };
                // Without an answer it is not known who lags; the nodes follow the journal all the same.
                match self.run::<u32>(&SCRIPTS.count_behind, args).await {
                    Ok(1..) => tokio::time::sleep(KNOWN_POLL_INTERVAL).await,
                    Ok(0) | Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(KNOWN_EVERYWHERE_MAX, known).await;
    }

    async fn finish_replay(&self, _at: Moment) -> Result<(), StoreError> {
        // Redis knows when passes expire; where that was lost, the rebuild counts them as fresh.
        self.recovery_wakeup.notify_one();
        Ok(())
    }

    async fn reserve_slot(&self, ask: &SlotRequest, at: Moment) -> Result<Reservation, StoreError> {
        let lane = match self.mirror.entry_state(ask.number, at) {
            NumberState::Left => return Ok(Reservation::Ended),
            NumberState::Missed => "late",
            // Whether the number is called yet, the script knows better than the mirror.
            NumberState::Waiting | NumberState::Called { .. } | NumberState::Admitted => "called",
        };
        self.mirror.observe(at);
        let expected = round_to_count(self.mirror.expected_arrivals());
        let args = ReserveSlot {
            now_ms: self.clock.arg(at.now),
            number: ask.number,
            visit: ask.visit.as_uuid().into_bytes(),
            lane,
            expected,
            pass_ttl_ms: millis(self.config.pass_ttl),
            reservation_ttl_ms: millis(RESERVATION_TTL),
            claim_ttl_ms: millis(CLAIM_LAPSE),
            claimants_max: CLAIMANTS_MAX,
            overloaded: u8::from(ask.load == BoxOfficeLoad::Overloaded),
            retry_min_ms: millis(*RETRY_AFTER.start()),
            retry_max_ms: millis(*RETRY_AFTER.end()),
            retry_far_max_ms: millis(RETRY_AFTER_FAR),
            speedup_max: SPEEDUP_MAX,
        };
        let reply: Vec<Vec<u8>> = self.run(&SCRIPTS.reserve_slot, args).await?;
        reservation_of(&reply)
    }

    async fn release_slot(&self, visit: VisitId) -> Result<(), StoreError> {
        let args = ReleaseSlot {
            now_ms: self.clock.arg(Timestamp::default()),
            visit: visit.as_uuid().into_bytes(),
        };
        self.run::<u8>(&SCRIPTS.release_slot, args).await?;
        Ok(())
    }

    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError> {
        let args = GrantPass {
            now_ms: self.clock.arg(now),
            visit: visit.as_uuid().into_bytes(),
            pass_ttl_ms: millis(self.config.pass_ttl),
            visit_max_ms: millis(self.config.visit_max),
            slot_grace_ms: millis(SLOT_GRACE),
        };
        let expires_ms: i64 = self.run(&SCRIPTS.grant_pass, args).await?;
        let generation = self.mirror.settings().pass_generation;
        Ok((expires_ms > 0).then(|| PassGrant {
            expires_at: Timestamp::from_millis(expires_ms),
            generation,
        }))
    }

    async fn end_visits(&self, named: &[VisitId], now: Timestamp) -> Result<Vec<EndedVisit>, StoreError> {
        let args = EndVisits {
            now_ms: self.clock.arg(now),
            retry_ms: millis(END_RETRY),
            limit: ENDED_AT_ONCE,
        };
        let call = named.iter().fold(
            args.append_to(self.keys(SCRIPTS.end_visits.keys)),
            |call, visit| call.arg(visit.as_uuid().as_bytes()),
        );
        let rows: Vec<(Vec<u8>, u32, Vec<u8>)> =
            parse(self.connection.call(&SCRIPTS.end_visits.script, call).await?)?;
        let ended = |(id, number, reason): &(Vec<u8>, u32, Vec<u8>)| {
            Some(EndedVisit {
                visit: visit_of(id)?,
                number: *number,
                reason: if reason == b"l" {
                    EndReason::Lapsed
                } else {
                    EndReason::Ended
                },
            })
        };
        let mut ended: Vec<EndedVisit> = rows.iter().filter_map(ended).collect();
        ended.sort_unstable_by_key(|visit| visit.number);
        self.mirror.set_progress(&ended, VisitProgress::Ending);
        Ok(ended)
    }

    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError> {
        let args = ReopenVisits {
            slot_grace_ms: millis(SLOT_GRACE),
        };
        let call = ended.iter().fold(
            args.append_to(self.keys(SCRIPTS.reopen_visits.keys)),
            |call, visit| call.arg(visit.visit.as_uuid().as_bytes()),
        );
        self.connection.call(&SCRIPTS.reopen_visits.script, call).await?;
        self.mirror.set_progress(ended, VisitProgress::Admitted);
        Ok(())
    }

    async fn sync_state(&self, at: Moment) -> Result<(), StoreError> {
        self.sync(at).await
    }

    fn admission_state(&self, _at: Moment) -> AdmissionState {
        *self.synced.lock()
    }

    async fn number_after(&self, count: u32) -> Result<u32, StoreError> {
        self.mirror.number_after(count).await
    }

    async fn share_status(
        &self,
        seen: u64,
        own: Option<(u64, &[u8])>,
    ) -> Result<Option<SharedStatus>, StoreError> {
        let (version, json) = own.unwrap_or((0, b""));
        let args = ShareStatus {
            now_ms: self.clock.arg(Timestamp::default()),
            seen_version: seen,
            new_version: version,
            json: json.to_vec(),
        };
        let (version, json, age_ms): (u64, Vec<u8>, u64) = self.run(&SCRIPTS.share_status, args).await?;
        Ok(Some(SharedStatus {
            version,
            json,
            age: Duration::from_millis(age_ms),
        }))
    }

    async fn share_heartbeats(&self, heard: &[Heartbeat]) -> Result<Vec<Heartbeat>, StoreError> {
        let args = ShareHeartbeats {
            now_ms: self.clock.arg(Timestamp::default()),
            since_ms: self.heartbeats_since_ms.load(Ordering::Relaxed),
        };
        let call = heard.iter().fold(
            args.append_to(self.keys(SCRIPTS.share_heartbeats.keys)),
            |call, heartbeat| call.arg(format!("{} {}", heartbeat.number, heartbeat.until.as_millis())),
        );
        let (now_ms, texts): (i64, Vec<String>) = parse(
            self.connection
                .call(&SCRIPTS.share_heartbeats.script, call)
                .await?,
        )?;
        self.heartbeats_since_ms.store(now_ms, Ordering::Relaxed);
        let heartbeat = |text: &String| {
            let (number, until) = text.split_once(' ')?;
            Some(Heartbeat {
                number: number.parse().ok()?,
                until: Timestamp::from_millis(until.parse().ok()?),
            })
        };
        Ok(texts.iter().filter_map(heartbeat).collect())
    }

    fn record_report(&self, source: &str, zones: Option<&[ZoneStock]>, health: Option<BoxOfficeHealth>) {
        let mut reports = self.reports.lock();
        if let Some(zones) = zones {
            reports.zones = serde_json::to_string(zones).ok();
        }
        if let Some(health) = health.and_then(|health| serde_json::to_string(&health).ok()) {
            reports.healths.insert(source.to_owned(), health);
        }
    }

    fn reported_stock(&self) -> Option<Stock> {
        self.stock.lock().clone()
    }

    fn find_by_subject(&self, subject: u64) -> Option<KnownEntry> {
        self.mirror.find_by_subject(subject)
    }

    fn subject_of(&self, number: u32) -> Option<u64> {
        self.mirror.subject_of(number)
    }

    fn belongs_to(&self, number: u32, subject: u64) -> bool {
        self.mirror.belongs_to(number, subject)
    }

    fn entry_state(&self, number: u32, at: Moment) -> NumberState {
        self.mirror.entry_state(number, at)
    }

    fn is_person_waiting(&self, number: u32) -> bool {
        self.mirror.is_person_waiting(number)
    }

    fn visit_of(&self, number: u32) -> Option<VisitId> {
        self.mirror.visit_of(number)
    }

    fn is_admitted(&self, visit: VisitId, generation: u32) -> bool {
        self.mirror.is_admitted(visit, generation)
    }

    fn extend_visit(&self, visit: VisitId, until: Timestamp) {
        let mut extensions = self.extensions.lock();
        let extended = extensions.entry(visit).or_insert(until);
        *extended = (*extended).max(until);
    }

    fn settings(&self) -> Settings {
        self.mirror.settings()
    }

    fn now_serving(&self) -> u32 {
        self.mirror.now_serving()
    }

    fn people_ahead(&self) -> PeopleAhead {
        self.mirror.people_ahead()
    }

    fn heartbeat_sample(&self, near: u32) -> Vec<u32> {
        self.mirror.heartbeat_sample(near)
    }

    fn counts(&self, at: Moment) -> Counts {
        let synced = *self.synced.lock();
        Counts {
            active_visits: synced.active_visits,
            claimants: synced.claimants,
            late_arrivals: synced.late_arrivals,
            ..self.mirror.counts(at)
        }
    }

    fn visit_lengths(&self, now: Timestamp) -> VisitForecast {
        self.mirror.visit_lengths(now)
    }
}
