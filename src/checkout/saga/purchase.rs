//! Buying, as a table: from a hold to tickets, or back to a hold.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::checkout::{
    House,
    ledger::{Claimed, LedgerError, NewEvent, Right},
    order::{Order, OrderState, Reason},
    outbox,
    payment::{AuthoriseOutcome, CardToken, Charge, LookupOutcome, PaymentState, Settled},
    saga::{
        engine::{Act, Step, Table, Verdict},
        refund,
        running_orders::Run,
    },
    seats::BeginOutcome,
    tickets,
};
use crate::kernel::Timestamp;

/// What the steps of one order share.
pub(crate) struct Attempt {
    pub(crate) house: Arc<House>,
    pub(crate) right: Right,
    pub(crate) run: Arc<Run>,
    /// In memory only: after a crash nobody has the card any more, and a payment that had not reached the gateway is
    /// given up.
    card: Mutex<Option<CardToken>>,
    asked: AtomicBool,
}

impl Attempt {
    pub(crate) fn new(house: Arc<House>, right: Right, run: Arc<Run>, card: Option<CardToken>) -> Self {
        Self {
            house,
            right,
            run,
            card: Mutex::new(card),
            asked: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.house.clock.now()
    }

    pub(crate) async fn order(&self) -> Result<Order, LedgerError> {
        let order = self.house.ledger.order(self.right.order).await?;
        order.ok_or_else(|| LedgerError::Unavailable("an order under way is not in the ledger".into()))
    }
}

pub(crate) static PURCHASE: Table<Attempt> = Table {
    name: "purchase",
    steps: &[
        Step {
            name: "begin",
            act: |a| Box::pin(begin(a)),
            undo: Some(|a| Box::pin(let_go(a))),
            told: ["history.beginning", "history.begun", "history.let_go"],
        },
        Step {
            name: "claim",
            act: |a| Box::pin(claim(a)),
            undo: Some(|a| Box::pin(drop_claims(a))),
            told: ["history.claiming", "history.claimed", "history.claim_dropped"],
        },
        AUTHORISE,
        BOOK,
        CAPTURE,
        DELIVER,
        ANNOUNCE,
    ],
};

/// Money came after its order had been closed: the same seats if they are free, else all of it back.
pub(crate) static LATE_MONEY: Table<Attempt> = Table {
    name: "late_money",
    steps: &[
        Step {
            name: "reclaim",
            act: |a| Box::pin(reclaim(a)),
            undo: Some(|a| Box::pin(give_back(a))),
            told: ["history.late_money", "history.reclaimed", "history.refunded"],
        },
        AUTHORISE,
        BOOK,
        CAPTURE,
        DELIVER,
        ANNOUNCE,
    ],
};

const AUTHORISE: Step<Attempt> = Step {
    name: "authorise",
    act: |a| Box::pin(authorise(a)),
    undo: Some(|a| Box::pin(refund::repay(a))),
    told: [
        "history.authorising",
        "history.authorised",
        "history.authorisation_voided",
    ],
};
const BOOK: Step<Attempt> = Step {
    name: "book",
    act: |a| Box::pin(book(a)),
    undo: None,
    told: ["history.booking", "history.booked", "history.booking"],
};
const CAPTURE: Step<Attempt> = Step {
    name: "capture",
    act: |a| Box::pin(capture(a)),
    undo: None,
    told: ["history.capturing", "history.captured", "history.capturing"],
};
const DELIVER: Step<Attempt> = Step {
    name: "deliver",
    act: |a| Box::pin(deliver(a)),
    undo: None,
    told: ["history.delivering", "history.delivered", "history.delivering"],
};
pub(crate) const ANNOUNCE: Step<Attempt> = Step {
    name: "announce",
    act: |a| Box::pin(outbox::announce(a)),
    undo: None,
    told: ["history.announcing", "history.announced", "history.announcing"],
};

/// The engine: hold -> paying, for as long as a payment may take.
async fn begin(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let until = a.now().plus(a.house.redirect_within());
    match a
        .house
        .seats
        .begin_checkout(&order.show, order.hold, &order.buyer, until)
        .await
    {
        Ok(BeginOutcome::Begun { seats }) => {
            // She may have swapped seats between the order and this moment; then the order is about seats she has not.
            let same =
                seats.len() == order.seats.len() && order.seats.iter().all(|it| seats.contains(&it.guid));
            Ok(if same {
                Act::Done
            } else {
                Act::Back(Reason::HoldGone)
            })
        }
        Ok(BeginOutcome::Gone) => Ok(Act::Back(Reason::HoldGone)),
        Err(error) => {
            tracing::warn!(order = %order.id, %error, "the seats did not answer");
            Ok(Act::Again)
        }
    }
}

/// The seats go back to the hold, for another try; the attempt is closed.
async fn let_go(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let (house, now) = (&a.house, a.now());
    let reason = order.reason.clone().unwrap_or(Reason::HoldGone);
    if reason == Reason::SeatsTaken {
        // The engine had forgotten whose the seats are. It is told, so that nobody else is promised them.
        let guids = order.guids();
        let rivals = house
            .ledger
            .claims(Some((&order.show, &guids)), now.plus(house.redirect_within()))
            .await?;
        let told = async {
            house.seats.free(&order.show, order.hold, &guids).await?;
            house.seats.restore(rivals).await
        };
        if let Err(error) = told.await {
            tracing::warn!(order = %order.id, %error, "the seats did not answer");
            return Ok(Act::Again);
        }
    } else if let Err(error) = house
        .seats
        .return_to_hold(&order.show, order.hold, now.plus(house.retry_within()))
        .await
    {
        // An engine that was not told would keep the seats for a payment that has ended.
        tracing::warn!(order = %order.id, %error, "the seats did not answer");
        return Ok(Act::Again);
    }
    let certain = order.payment_key.is_none() || matches!(reason, Reason::Declined(_));
    let check_at = (!certain).then(|| now.plus(house.config.authorise_within));
    house
        .ledger
        .close(a.right, reason.final_state(), None, check_at, now)
        .await?;
    Ok(Act::Done)
}

/// The line of defence: whatever the engine says, the ledger gives each seat to one order.
async fn claim(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    Ok(
        match a
            .house
            .ledger
            .claim(a.right, a.house.seats_per_fan(&order.show.sale), a.now())
            .await?
        {
            Claimed::Claimed => Act::Done,
            Claimed::SeatsTaken => Act::Back(Reason::SeatsTaken),
            Claimed::QuotaReached => Act::Back(Reason::QuotaReached),
            Claimed::Closed => Act::Back(Reason::HoldGone),
        },
    )
}

async fn drop_claims(a: &Attempt) -> Verdict {
    a.house.ledger.drop_claims(a.right, a.now()).await?;
    Ok(Act::Done)
}

async fn reclaim(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let claimed = a
        .house
        .ledger
        .claim(a.right, a.house.seats_per_fan(&order.show.sale), a.now())
        .await?;
    Ok(if claimed == Claimed::Claimed {
        Act::Done
    } else {
        Act::Back(Reason::LateMoney)
    })
}

async fn give_back(a: &Attempt) -> Verdict {
    let repaid = refund::repay(a).await?;
    if repaid != Act::Done {
        return Ok(repaid);
    }
    let order = a.order().await?;
    a.house.ledger.drop_claims(a.right, a.now()).await?;
    let event = event_of(&order, "order.refunded");
    a.house
        .ledger
        .close(a.right, OrderState::Refunded, Some(event), None, a.now())
        .await?;
    Ok(Act::Done)
}

/// Reserves the money. An answer that did not come is asked for by key; it is never assumed.
async fn authorise(a: &Attempt) -> Verdict {
    if !a.house.ledger.pin(a.right).await? {
        return Ok(Act::Back(Reason::HoldGone));
    }
    let order = a.order().await?;
    let key = payment_key(&order)?;
    let card = a.card.lock().clone();
    if let Some(card) = card.clone().filter(|_| !a.asked.swap(true, Ordering::Relaxed)) {
        return ask_for_money(a, &order, key, card).await;
    }
    match a
        .house
        .ask(a.house.gateway.lookup(key), LookupOutcome::Unknown)
        .await
    {
        LookupOutcome::Found(PaymentState::Authorised { .. } | PaymentState::Captured) => Ok(Act::Done),
        LookupOutcome::Found(PaymentState::Declined { reason }) => Ok(Act::Back(Reason::Declined(reason))),
        LookupOutcome::Found(PaymentState::Voided | PaymentState::Refunded) => {
            Ok(Act::Back(Reason::TimedOut))
        }
        _ if a.now() > order.pay_by => Ok(Act::Back(Reason::TimedOut)),
        LookupOutcome::Found(PaymentState::AwaitingBuyer { url }) => await_buyer(a, &url).await,
        LookupOutcome::NotFound => match card {
            Some(card) => ask_for_money(a, &order, key, card).await,
            None => Ok(Act::Back(Reason::Interrupted)),
        },
        LookupOutcome::Unknown => Ok(Act::Again),
    }
}

async fn ask_for_money(a: &Attempt, order: &Order, key: &str, token: CardToken) -> Verdict {
    let charge = Charge {
        key: key.to_owned(),
        amount: order.total,
        token,
        description: a.house.title(&order.show.sale),
        return_url: format!(
            "{}/v1/orders/{}/return",
            a.house.config.issuer.trim_end_matches('/'),
            order.id
        ),
    };
    let outcome = a
        .house
        .ask(a.house.gateway.authorise(&charge), AuthoriseOutcome::Unknown)
        .await;
    if outcome != AuthoriseOutcome::Unknown {
        a.card.lock().take();
    }
    match outcome {
        AuthoriseOutcome::Authorised { .. } => Ok(Act::Done),
        AuthoriseOutcome::Declined { reason } => Ok(Act::Back(Reason::Declined(reason))),
        AuthoriseOutcome::Redirect { url } => await_buyer(a, &url).await,
        AuthoriseOutcome::Unknown => Ok(Act::Again),
    }
}

async fn await_buyer(a: &Attempt, url: &str) -> Verdict {
    let now = a.now();
    a.house
        .ledger
        .await_payment(a.right, url, now.plus(a.house.redirect_within()), now)
        .await?;
    a.run.moved();
    Ok(Act::Waits)
}

/// The pivot: tickets and event in the transaction that makes the seats hers. From here only forward.
async fn book(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let tickets = tickets::new_tickets(&order, a.house.entropy.as_ref());
    if !a
        .house
        .ledger
        .book(a.right, tickets, event_of(&order, "order.booked"), a.now())
        .await?
    {
        return Ok(Act::Back(Reason::SeatsTaken));
    }
    if let Err(error) = a
        .house
        .seats
        .book(&order.show, order.hold, &order.guids(), &order.buyer)
        .await
    {
        // The seats are hers already. An engine that cannot be told keeps them for her payment, or learns of them from the
        // ledger; the money does not wait for it.
        tracing::warn!(order = %order.id, %error, "the seats were not told that they are sold");
    }
    Ok(Act::Done)
}

async fn capture(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let key = payment_key(&order)?;
    match a
        .house
        .ask(a.house.gateway.capture(key, order.total), Settled::Unknown)
        .await
    {
        Settled::Done => {
            a.house.ledger.captured(a.right, a.now()).await?;
            a.house.tally.paid.fetch_add(1, Ordering::Relaxed);
            a.run.let_visit_go();
            a.run.moved();
            Ok(Act::Done)
        }
        Settled::Refused { reason } => Ok(Act::Divert(refund::RETURN.name, Reason::CaptureRefused(reason))),
        Settled::Unknown => Ok(Act::Again),
    }
}

/// From now on her tickets are shown; they are signed whenever she asks for them.
async fn deliver(a: &Attempt) -> Verdict {
    a.house.ledger.delivered(a.right, a.now()).await?;
    Ok(Act::Done)
}

pub(crate) fn payment_key(order: &Order) -> Result<&str, LedgerError> {
    order
        .payment_key
        .as_deref()
        .ok_or_else(|| LedgerError::Unavailable("a claimed order has no payment key".into()))
}

pub(crate) fn event_of(order: &Order, kind: &'static str) -> NewEvent {
    let data = serde_json::json!({
        "order": order.id,
        "sale": order.show.sale,
        "performance": order.show.performance,
        "buyer": order.buyer.as_str(),
        "seats": order.guids(),
        "total": order.total,
    });
    NewEvent {
        kind,
        data: data.to_string(),
    }
}
