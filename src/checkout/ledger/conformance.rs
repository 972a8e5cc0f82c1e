//! The suite that every ledger must pass.

use std::{path::PathBuf, time::Duration};

use crate::checkout::ledger::{
    ClaimOutcome, SeatStoreEpoch, LeaseRequest, Ledger, LedgerError, NewEvent, NewOrder, NewTicket, OpenOutcome, Position,
    Progress, FencedLease,
};
use crate::{
    checkout::{
        order::{OrderState, Reason},
        seats::{HeldSeats, SeatInfo, PerformanceKey},
    },
    kernel::{Currency, Entropy, HoldId, Money, OrderId, OsEntropy, Subject, Timestamp, VisitId},
    platform::signing::base64url,
};

/// A directory that goes with its test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let mut unique = [0; 6];
        OsEntropy.fill(&mut unique);
        let dir = std::env::temp_dir().join(format!("stagedoor-{name}-{}", base64url(&unique)));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn performance_key() -> PerformanceKey {
    PerformanceKey {
        sale: "spring".parse().unwrap(),
        performance: "friday".parse().unwrap(),
    }
}

pub(crate) fn seat(guid: &str) -> SeatInfo {
    let text = |it: &str| it.to_owned();
    let price = Money::new(100, Currency::KRW);
    SeatInfo {
        guid: guid.into(),
        zone: text("R"),
        section: text("101"),
        row: text("A"),
        number: guid.into(),
        price,
    }
}

pub(crate) fn held_seats(seats: &[&str]) -> HeldSeats {
    let seats: Vec<_> = seats.iter().map(|it| seat(it)).collect();
    let total = Money::new(100 * i64::try_from(seats.len()).unwrap(), Currency::KRW);
    HeldSeats {
        performance_key: performance_key(),
        seats,
        total,
    }
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_795_464_000_000 + ms)
}

pub(crate) fn lease_request(owner: &str, now_ms: i64) -> LeaseRequest {
    LeaseRequest {
        owner: owner.into(),
        now: at(now_ms),
        until: at(now_ms + 1_000),
    }
}

pub(crate) fn position(step: &str) -> Position {
    Position {
        saga: "purchase".into(),
        step: step.into(),
        back: false,
        attempts: 0,
        since: at(0),
    }
}

pub(crate) fn event(kind: &'static str) -> NewEvent {
    NewEvent {
        kind,
        data: "{}".into(),
    }
}

pub(crate) fn tickets(seats: &[&str]) -> Vec<NewTicket> {
    seats
        .iter()
        .map(|it| NewTicket {
            id: format!("{}-{it}", HoldId::random(&OsEntropy)),
            seat: (*it).into(),
        })
        .collect()
}

/// The first step is done and this one begun, with trouble.
pub(crate) fn progress(step: &str) -> Progress {
    Progress {
        position: position(step),
        ended: false,
        stuck: true,
        reason: Some(Reason::HoldGone),
        log: vec![("begin".into(), "done"), (step.into(), "started")],
        at: at(6_000),
        lease_until: at(9_000),
    }
}

/// A buyer with a hold.
#[derive(Clone)]
pub(crate) struct Given {
    buyer: Subject,
    hold: HoldId,
    seats: Vec<String>,
    key: String,
    hash: String,
}

impl Given {
    pub(crate) fn new(buyer: u32, seats: &[&str]) -> Self {
        let hold = HoldId::random(&OsEntropy);
        Self {
            buyer: Subject::customer(&buyer.to_string()).unwrap(),
            hold,
            seats: seats.iter().map(|it| (*it).to_owned()).collect(),
            key: hold.to_string(),
            hash: "h".into(),
        }
    }

    /// The same buyer and hold under another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.into(),
            ..self.clone()
        }
    }

    pub(crate) fn order(&self) -> NewOrder {
        let seats: Vec<&str> = self.seats.iter().map(String::as_str).collect();
        NewOrder {
            id: OrderId::new(at(0), &OsEntropy),
            buyer: self.buyer.clone(),
            visit: VisitId::random(&OsEntropy),
            hold: self.hold,
            held_seats: held_seats(&seats),
            method: "card".into(),
            idempotency_key: self.key.clone(),
            request_hash: self.hash.clone(),
            position: position("begin"),
            payment_deadline: at(60_000),
        }
    }
}

pub(crate) async fn try_open(ledger: &dyn Ledger, given: &Given) -> Result<OpenOutcome, LedgerError> {
    ledger.open_order(given.order(), lease_request("a", 0)).await
}

pub(crate) async fn open(ledger: &dyn Ledger, given: &Given) -> FencedLease {
    match try_open(ledger, given).await.unwrap() {
        OpenOutcome::New(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Runs the whole suite. Each case uses buyers and seats of its own.
pub(crate) async fn all(ledger: &dyn Ledger) {
    one_key_is_one_order(ledger).await;
    one_hold_is_one_open_attempt(ledger).await;
    a_seat_has_one_claim_and_its_fence_grows(ledger).await;
    many_claims_at_once_give_each_seat_once(ledger).await;
    the_quota_is_kept_and_given_back(ledger).await;
    booking_happens_once_with_tickets_and_event(ledger).await;
    nothing_is_booked_without_claims(ledger).await;
    an_old_right_changes_nothing(ledger).await;
    a_closed_attempt_claims_nothing(ledger).await;
    webhooks_are_taken_in_once(ledger).await;
    claims_are_told_for_a_restart(ledger).await;
    payments_are_checked_when_due(ledger).await;
    an_engines_memory_is_counted_once(ledger).await;
}

async fn one_key_is_one_order(ledger: &dyn Ledger) {
    let given = Given::new(1, &["K-1"]);
    let opened =
        futures_util::future::join_all((0..8).map(|_| ledger.open_order(given.order(), lease_request("a", 0)))).await;
    let new: Vec<_> = opened
        .iter()
        .filter_map(|it| {
            if let Ok(OpenOutcome::New(lease)) = it {
                Some(lease.order)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(new.len(), 1);
    assert!(
        opened
            .iter()
            .all(|it| matches!(it, Ok(OpenOutcome::New(lease)) if lease.order == new[0])
                || matches!(it, Ok(OpenOutcome::Existing(id)) if *id == new[0]))
    );
    let other_body = Given {
        hash: "other".into(),
        ..given.clone()
    };
    assert_eq!(
        ledger
            .open_order(other_body.order(), lease_request("a", 0))
            .await
            .unwrap(),
        OpenOutcome::KeyReused
    );
    assert_eq!(
        ledger
            .idempotency_record(&given.buyer, &given.key)
            .await
            .unwrap()
            .map(|it| it.order),
        Some(new[0])
    );
    let stranger = Subject::customer("stranger").unwrap();
    assert_eq!(
        ledger.idempotency_record(&stranger, &given.key).await.unwrap(),
        None,
        "a key is its buyer's own"
    );
}

async fn one_hold_is_one_open_attempt(ledger: &dyn Ledger) {
    let given = Given::new(2, &["H-1"]);
    let first = open(ledger, &given).await;
    let second_click = Given {
        key: "second".into(),
        ..given.clone()
    };
    assert_eq!(
        ledger
            .open_order(second_click.order(), lease_request("a", 0))
            .await
            .unwrap(),
        OpenOutcome::Existing(first.order)
    );
    ledger
        .close_order(first, OrderState::Declined, None, None, at(1))
        .await
        .unwrap();
    let other_card = Given {
        key: "third".into(),
        ..given
    };
    assert!(matches!(
        ledger
            .open_order(other_card.order(), lease_request("a", 2))
            .await
            .unwrap(),
        OpenOutcome::New(_)
    ));
}

async fn a_seat_has_one_claim_and_its_fence_grows(ledger: &dyn Ledger) {
    let one = open(ledger, &Given::new(3, &["F-1", "F-2"])).await;
    let two = open(ledger, &Given::new(4, &["F-2", "F-3"])).await;
    assert_eq!(ledger.claim(one, 4, at(0)).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(
        ledger.claim(one, 4, at(0)).await.unwrap(),
        ClaimOutcome::Claimed,
        "twice is once"
    );
    assert_eq!(ledger.claim(two, 4, at(0)).await.unwrap(), ClaimOutcome::SeatsTaken);
    let key = |order: Option<crate::checkout::order::Order>| order.unwrap().payment_key.unwrap();
    assert_eq!(
        key(ledger.order(one.order).await.unwrap()),
        format!("{}:1", one.order)
    );
    ledger.release_claims(one, at(1)).await.unwrap();
    ledger.release_claims(one, at(1)).await.unwrap();
    assert_eq!(
        ledger.claim(two, 4, at(2)).await.unwrap(),
        ClaimOutcome::Claimed,
        "all or none left F-3 free"
    );
    assert_eq!(
        key(ledger.order(two.order).await.unwrap()),
        format!("{}:2", two.order),
        "F-2 was claimed before"
    );
}

async fn many_claims_at_once_give_each_seat_once(ledger: &dyn Ledger) {
    let mut leases = Vec::new();
    for buyer in 100..140 {
        leases.push(open(ledger, &Given::new(buyer, &["M-1", "M-2"])).await);
    }
    let claimed = futures_util::future::join_all(leases.iter().map(|it| ledger.claim(*it, 4, at(0)))).await;
    assert_eq!(
        claimed
            .iter()
            .filter(|it| matches!(it, Ok(ClaimOutcome::Claimed)))
            .count(),
        1
    );
    assert_eq!(
        claimed
            .iter()
            .filter(|it| matches!(it, Ok(ClaimOutcome::SeatsTaken)))
            .count(),
        39
    );
}

async fn the_quota_is_kept_and_given_back(ledger: &dyn Ledger) {
    let first = open(ledger, &Given::new(5, &["Q-1", "Q-2"])).await;
    let second = open(ledger, &Given::new(5, &["Q-3"])).await;
    assert_eq!(ledger.claim(first, 2, at(0)).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(
        ledger.claim(second, 2, at(0)).await.unwrap(),
        ClaimOutcome::QuotaReached
    );
    ledger.release_claims(first, at(0)).await.unwrap();
    assert_eq!(ledger.claim(second, 2, at(0)).await.unwrap(), ClaimOutcome::Claimed);
    let greedy = open(ledger, &Given::new(6, &["Q-4", "Q-5", "Q-6"])).await;
    assert_eq!(
        ledger.claim(greedy, 2, at(0)).await.unwrap(),
        ClaimOutcome::QuotaReached,
        "also the very first time"
    );
    let neighbour = open(ledger, &Given::new(7, &["Q-4"])).await;
    assert_eq!(
        ledger.claim(neighbour, 2, at(0)).await.unwrap(),
        ClaimOutcome::Claimed,
        "a refused claim leaves no row"
    );
}

async fn booking_happens_once_with_tickets_and_event(ledger: &dyn Ledger) {
    let lease = open(ledger, &Given::new(8, &["B-1", "B-2"])).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    assert!(
        !ledger
            .book(lease, tickets(&["B-1", "B-2"]), event("order.booked"), at(1))
            .await
            .unwrap(),
        "not before it is pinned"
    );
    assert!(ledger.lock_claims(lease).await.unwrap());
    assert!(ledger.lock_claims(lease).await.unwrap());
    for _ in 0..2 {
        assert!(
            ledger
                .book(lease, tickets(&["B-1", "B-2"]), event("order.booked"), at(2))
                .await
                .unwrap()
        );
    }
    assert_eq!(ledger.tickets(lease.order).await.unwrap().len(), 2);
    let events = ledger.undelivered_events(lease.order).await.unwrap();
    assert_eq!(events.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1]);
    ledger.record_capture(lease, at(3)).await.unwrap();
    assert_eq!(
        ledger.order(lease.order).await.unwrap().unwrap().state,
        OrderState::Paid
    );
    ledger.record_event_delivery(lease.order, 1, at(3)).await.unwrap();
    assert_eq!(ledger.undelivered_events(lease.order).await.unwrap(), []);
    ledger.void_tickets(lease, at(4)).await.unwrap();
    assert_eq!(ledger.tickets(lease.order).await.unwrap(), []);
    ledger
        .close_order(
            lease,
            OrderState::Canceled,
            Some(event("order.canceled")),
            None,
            at(5),
        )
        .await
        .unwrap();
    ledger
        .close_order(
            lease,
            OrderState::Canceled,
            Some(event("order.canceled")),
            None,
            at(5),
        )
        .await
        .unwrap();
    assert_eq!(
        ledger
            .undelivered_events(lease.order)
            .await
            .unwrap()
            .iter()
            .map(|it| it.sequence)
            .collect::<Vec<_>>(),
        [2]
    );
}

async fn nothing_is_booked_without_claims(ledger: &dyn Ledger) {
    let lease = open(ledger, &Given::new(9, &["N-1"])).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    ledger.lock_claims(lease).await.unwrap();
    ledger.release_claims(lease, at(0)).await.unwrap();
    assert!(!ledger.lock_claims(lease).await.unwrap());
    assert!(
        !ledger
            .book(lease, tickets(&["N-1"]), event("order.booked"), at(1))
            .await
            .unwrap()
    );
    assert_eq!(ledger.tickets(lease.order).await.unwrap(), []);
}

async fn an_old_right_changes_nothing(ledger: &dyn Ledger) {
    let old = open(ledger, &Given::new(10, &["O-1"])).await;
    let due = ledger.lease_due_sagas(lease_request("b", 500), false, 1_000).await.unwrap();
    assert!(
        due.iter().all(|it| it.lease.order != old.order),
        "its lease has not run out"
    );
    let due = ledger.lease_due_sagas(lease_request("b", 5_000), false, 1_000).await.unwrap();
    let new = due.iter().find(|it| it.lease.order == old.order).unwrap();
    assert_eq!(
        (new.position.step.as_str(), new.lease.fence),
        ("begin", old.fence + 1)
    );
    assert!(matches!(
        ledger.claim(old, 4, at(0)).await,
        Err(LedgerError::LeaseLost)
    ));
    assert!(matches!(
        ledger.close_order(old, OrderState::Declined, None, None, at(0)).await,
        Err(LedgerError::LeaseLost)
    ));
    let progress = progress("claim");
    assert!(matches!(
        ledger.record_progress(old, progress.clone()).await,
        Err(LedgerError::LeaseLost)
    ));
    ledger.record_progress(new.lease, progress).await.unwrap();
    let order = ledger.order(old.order).await.unwrap().unwrap();
    assert!(order.stuck && order.reason == Some(Reason::HoldGone));
    let log = ledger.saga_log(old.order).await.unwrap();
    let told: Vec<_> = log
        .iter()
        .map(|it| (it.step.as_str(), it.state.as_str()))
        .collect();
    assert_eq!(
        told,
        [("begin", "started"), ("begin", "done"), ("claim", "started")]
    );
    let own = ledger.lease_due_sagas(lease_request("b", 6_001), true, 1_000).await.unwrap();
    assert!(
        own.iter()
            .any(|it| it.lease.order == old.order && it.position.step == "claim"),
        "after a restart its own comes back"
    );
    assert!(
        ledger
            .start_saga(
                old.order,
                OrderState::Paid,
                OrderState::Refunding,
                Reason::CanceledByBuyer,
                position("x"),
                lease_request("b", 0)
            )
            .await
            .unwrap()
            .is_none()
    );
}

async fn a_closed_attempt_claims_nothing(ledger: &dyn Ledger) {
    let lease = open(ledger, &Given::new(11, &["C-1"])).await;
    ledger
        .close_order(lease, OrderState::Expired, None, None, at(1))
        .await
        .unwrap();
    assert_eq!(ledger.claim(lease, 4, at(2)).await.unwrap(), ClaimOutcome::AttemptClosed);
    let start = ledger.start_saga(
        lease.order,
        OrderState::Expired,
        OrderState::InProgress,
        Reason::LateMoney,
        position("x"),
        lease_request("b", 3),
    );
    let reopened = start.await.unwrap().unwrap();
    assert_eq!(
        ledger.claim(reopened.lease, 4, at(4)).await.unwrap(),
        ClaimOutcome::Claimed
    );
}

async fn webhooks_are_taken_in_once(ledger: &dyn Ledger) {
    assert!(ledger.record_webhook("sandbox", "msg_1", at(0)).await.unwrap());
    assert!(!ledger.record_webhook("sandbox", "msg_1", at(0)).await.unwrap());
    assert!(ledger.record_webhook("other", "msg_1", at(0)).await.unwrap());
}

async fn claims_are_told_for_a_restart(ledger: &dyn Ledger) {
    let given = Given::new(12, &["R-1", "R-2"]);
    let lease = open(ledger, &given).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    let of = |claims: Vec<crate::checkout::seats::ClaimedSeats>| {
        claims.into_iter().find(|it| it.hold == given.hold)
    };
    let claim = of(ledger.claims(None, at(7)).await.unwrap()).unwrap();
    assert_eq!((claim.seats.len(), claim.booked, claim.until), (2, false, at(7)));
    assert_eq!(claim.buyer, given.buyer);
    let only = ["R-2".to_owned()];
    let some = ledger.claims(Some((&performance_key(), &only)), at(7)).await.unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].seats.len(), 2, "a claim is told whole");
    ledger.lock_claims(lease).await.unwrap();
    ledger
        .book(lease, tickets(&["R-1", "R-2"]), event("order.booked"), at(1))
        .await
        .unwrap();
    assert!(of(ledger.claims(None, at(7)).await.unwrap()).unwrap().booked);
}

async fn payments_are_checked_when_due(ledger: &dyn Ledger) {
    let lease = open(ledger, &Given::new(13, &["P-1"])).await;
    ledger
        .close_order(lease, OrderState::Declined, None, Some(at(100)), at(1))
        .await
        .unwrap();
    assert_eq!(ledger.payments_to_check(at(99), 10).await.unwrap(), []);
    assert_eq!(ledger.payments_to_check(at(100), 10).await.unwrap(), [lease.order]);
    ledger.schedule_payment_check(lease.order, None).await.unwrap();
    assert_eq!(
        ledger
            .payments_to_check(at(100).plus(Duration::from_secs(9)), 10)
            .await
            .unwrap(),
        []
    );
}

async fn an_engines_memory_is_counted_once(ledger: &dyn Ledger) {
    let memory = |epoch, identity: &str| SeatStoreEpoch {
        epoch,
        identity: identity.into(),
    };
    assert_eq!(ledger.seat_store_epoch(&performance_key()).await.unwrap(), memory(0, ""));
    let here = performance_key();
    let found_lost = ["one", "two", "three"].map(|identity| ledger.advance_epoch(&here, 0, identity));
    let told: Vec<_> = futures_util::future::join_all(found_lost)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(
        told.iter().all(|it| it.epoch == 1 && *it == told[0]),
        "one of them, and all know which: {told:?}"
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 1, "four").await.unwrap(),
        memory(2, "four")
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 1, "one").await.unwrap(),
        memory(2, "four"),
        "what it saw is past"
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 7, "one").await.unwrap(),
        memory(2, "four"),
        "what it saw never was"
    );
    assert_eq!(ledger.seat_store_epoch(&performance_key()).await.unwrap(), memory(2, "four"));
    let other = PerformanceKey {
        performance: "saturday".parse().unwrap(),
        ..performance_key()
    };
    assert_eq!(
        ledger.seat_store_epoch(&other).await.unwrap(),
        memory(0, ""),
        "each performance has its own"
    );
}
