//! What the fans of a simulated sale do: join, leave, enter when called, take seats, and end their visits.

use std::cmp::Reverse;

use crate::{
    kernel::VisitId,
    simulate::{
        crowd::{ASKS_EVERY_MS, CallResponse, LATE_ASKS_EVERY_MS},
        sale::{Ask, BEFORE_MS, GROUP, Sale, Stay, millis, moment, seconds, subject, whole, zones},
    },
    waiting_room::{
        journal::record::{Event, Join, Record},
        store::port::{Assigned, Moment, QueueStore, Reservation, SlotRequest, StoreError},
        types::{BoxOfficeLoad, Phase},
    },
};

impl Sale<'_> {
    /// Fans join.
    pub(super) async fn join(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        let share = self.fans.joined_share(seconds(now_ms) - seconds(BEFORE_MS));
        let upto = whole(share * f64::from(self.number_of_fans)).min(self.number_of_fans);
        let mut first = self.joined + 1;
        while first <= upto {
            let last = upto.min(first + GROUP - 1);
            let joins = (first..=last)
                .map(|number| Join {
                    subject: subject(number),
                    joined_at: at.now,
                })
                .collect();
            self.write(Record::Joins { first, joins }, at).await?;
            first = last + 1;
        }
        self.joined = upto.max(self.joined);
        Ok(())
    }

    /// Fans leave the queue on purpose.
    pub(super) async fn leave(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let (serving, issued) = (self.store.now_serving(), self.joined);
        if issued <= serving {
            return Ok(());
        }
        for _ in 0..self.fans.leaving(issued - serving) {
            let number = self.fans.one_of(serving, issued);
            if !std::mem::replace(&mut self.left[number as usize], true) {
                self.happened(Event::Left { number }, now_ms).await?;
            }
        }
        Ok(())
    }

    /// A fan reloads the page and must find the same number.
    pub(super) async fn joins_again(&mut self, at: Moment) -> Result<Option<(u32, Option<u32>)>, StoreError> {
        let issued = self.joined;
        if issued == 0 {
            return Ok(None);
        }
        let number = self.fans.one_of(0, issued);
        // A fan who has left rightly gets another number.
        if self.left[number as usize] || number <= self.store.now_serving() {
            return Ok(None);
        }
        let found = match self
            .store
            .assign_number(Join {
                subject: subject(number),
                joined_at: at.now,
            })
            .await?
        {
            Assigned::Existing { entry, .. } | Assigned::New(entry) => Some(entry.number),
            Assigned::Full => None,
        };
        Ok(Some((number, found)))
    }

    /// Draws what each called fan does.
    pub(super) fn called(&mut self, from: u32, upto: u32, now_ms: u64) {
        self.timeline.calls.push((upto, now_ms.saturating_sub(BEFORE_MS)));
        for number in from + 1..=upto {
            if self.left[number as usize] {
                continue;
            }
            let joined_s = self.issued_by.partition_point(|&issued| issued < number);
            let waited_s =
                seconds(now_ms.saturating_sub(BEFORE_MS)) - f64::from(u32::try_from(joined_s).unwrap_or(0));
            let (after_ms, every_ms) = match self.fans.when_called(waited_s.max(0.0)) {
                CallResponse::Never => continue,
                CallResponse::Comes { after_ms } => (after_ms, ASKS_EVERY_MS),
                CallResponse::ComesLate { after_ms } => (after_ms, LATE_ASKS_EVERY_MS),
            };
            self.asks.push(Reverse(Ask {
                at_ms: now_ms + after_ms,
                number,
                every_ms,
                refused_at_ms: None,
            }));
        }
    }

    /// Fans whose time has come ask to enter.
    pub(super) async fn ask(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        let is_paused = self.phase(now_ms) != Phase::OnSale;
        while let Some(Reverse(ask)) = self
            .asks
            .peek()
            .copied()
            .filter(|Reverse(ask)| ask.at_ms <= now_ms)
        {
            self.asks.pop();
            let in_time = ask.every_ms == ASKS_EVERY_MS;
            self.timeline.checker.ask(ask.number, now_ms);
            self.timeline.came += u64::from(in_time && ask.refused_at_ms.is_none());
            let visit = VisitId::random(self.fans.entropy());
            match self
                .store
                .reserve_slot(
                    &SlotRequest {
                        number: ask.number,
                        visit,
                        load: BoxOfficeLoad::Normal,
                    },
                    at,
                )
                .await?
            {
                Reservation::Reserved { .. } => {
                    self.timeline.checker.enter(ask.number, now_ms);
                    self.happened(
                        Event::Admitted {
                            number: ask.number,
                            subject: subject(ask.number),
                            visit,
                        },
                        now_ms,
                    )
                    .await?;
                    self.timeline
                        .first_entry_ms
                        .get_or_insert(now_ms.saturating_sub(BEFORE_MS));
                    if in_time {
                        self.timeline
                            .extra_waits_ms
                            .extend(ask.refused_at_ms.map(|refused| now_ms - refused));
                    }
                    self.stay(ask.number, visit, now_ms);
                }
                Reservation::NoRoom { .. } | Reservation::BeingAdmitted => {
                    self.timeline.refused_at_first +=
                        u64::from(in_time && ask.refused_at_ms.is_none() && !is_paused);
                    let refused_at_ms = ask.refused_at_ms.or(Some(now_ms));
                    if is_paused || !self.fans.gives_up() {
                        self.asks.push(Reverse(Ask {
                            at_ms: now_ms + u64::from(ask.every_ms),
                            refused_at_ms,
                            ..ask
                        }));
                    }
                }
                // A fan who gave up the number may still have a page that asks.
                Reservation::Ended | Reservation::AlreadyAdmitted { .. } | Reservation::NotCalledYet => {}
            }
        }
        Ok(())
    }

    /// A visit begins: takes seats and draws its length.
    pub(super) fn stay(&mut self, number: u32, visit: VisitId, now_ms: u64) {
        let wanted = if self.seats_total == 0 {
            0
        } else {
            self.fans.seats()
        };
        let [free, held, booked] = self.seats();
        let seats = wanted.min(free);
        self.stock.zones = zones(free - seats, held + seats, booked);
        self.stays.push(Reverse(Stay {
            ends_ms: now_ms + self.fans.visit_ms().min(millis(self.config.visit_max)),
            number,
            visit,
            seats,
        }));
    }

    /// Ends the visits that are over.
    pub(super) async fn end_visits(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let mut over = Vec::new();
        while let Some(Reverse(stay)) = self
            .stays
            .peek()
            .copied()
            .filter(|Reverse(stay)| stay.ends_ms <= now_ms)
        {
            self.stays.pop();
            over.push(stay.visit);
            self.seats_leave(stay.seats);
        }
        for ended in self.store.end_visits(&over, moment(now_ms).now).await? {
            self.timeline.checker.leave(ended.number, true);
            self.happened(ended.event(), now_ms).await?;
        }
        let [free, held, _] = self.seats();
        if self.seats_total > 0 && free == 0 && held == 0 && self.timeline.sold_out_ms.is_none() {
            self.timeline.sold_out_ms = Some(now_ms.saturating_sub(BEFORE_MS));
            self.happened(Event::Stock { sold_out: true }, now_ms).await?;
        }
        Ok(())
    }

    /// Most held seats are paid for; the others are released.
    pub(super) fn seats_leave(&mut self, seats: u32) {
        if seats > 0 {
            let [free, held, booked] = self.seats();
            let held = held - seats.min(held);
            self.stock.zones = if self.fans.unit() < 0.85 {
                zones(free, held, booked + seats)
            } else {
                zones(free + seats, held, booked)
            };
        }
    }

    /// Free, held, booked.
    pub(super) fn seats(&self) -> [u32; 3] {
        self.stock
            .zones
            .first()
            .map_or([0; 3], |zone| [zone.free, zone.held, zone.booked])
    }
}
