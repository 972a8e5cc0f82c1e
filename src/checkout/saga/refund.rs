//! Giving back, as a table: tickets withdrawn, money returned, then the seats. Serves the buyer who cancels and the
//! gateway that will not pay out what it had reserved.

use crate::checkout::{
    ledger::LedgerError,
    order::Reason,
    payment::{LookupOutcome, PaymentState, Settled},
    saga::{
        engine::{Act, Step, Table, Verdict},
        purchase::{ANNOUNCE, Attempt, event_of},
    },
};

pub(crate) static RETURN: Table<Attempt> = Table {
    name: "return",
    steps: &[
        Step {
            name: "withdraw",
            act: |a| Box::pin(withdraw(a)),
            undo: None,
            told: ["history.withdrawing", "history.withdrawn", "history.withdrawing"],
        },
        Step {
            name: "repay",
            act: |a| Box::pin(repay(a)),
            undo: None,
            told: ["history.repaying", "history.repaid", "history.repaying"],
        },
        Step {
            name: "release",
            act: |a| Box::pin(release(a)),
            undo: None,
            told: ["history.releasing", "history.released", "history.releasing"],
        },
        ANNOUNCE,
    ],
};

async fn withdraw(a: &Attempt) -> Verdict {
    a.house.ledger.withdraw(a.right, a.now()).await?;
    Ok(Act::Done)
}

/// Makes sure that the buyer's money is hers: whatever state the payment is in, it ends void, refunded or declined.
pub(crate) async fn repay(a: &Attempt) -> Verdict {
    let order = a.order().await?;
    let Some(key) = order.payment_key.as_deref() else {
        return Ok(Act::Done);
    };
    let (house, gateway) = (&a.house, &a.house.gateway);
    let settled = match house.ask(gateway.lookup(key), LookupOutcome::Unknown).await {
        LookupOutcome::Found(
            PaymentState::Voided | PaymentState::Refunded | PaymentState::Declined { .. },
        ) => return Ok(Act::Done),
        LookupOutcome::Found(PaymentState::Captured) => {
            house
                .ask(gateway.refund(key, order.total), Settled::Unknown)
                .await
        }
        // Not found may be under way still: voiding the key makes sure that it comes too late.
        LookupOutcome::Found(PaymentState::Authorised { .. } | PaymentState::AwaitingBuyer { .. })
        | LookupOutcome::NotFound => house.ask(gateway.void(key), Settled::Unknown).await,
        LookupOutcome::Unknown => Settled::Unknown,
    };
    Ok(match settled {
        Settled::Done => Act::Done,
        Settled::Unknown => Act::Again,
        Settled::Refused { reason } => {
            tracing::warn!(order = %order.id, reason, "the gateway refused to give money back; asking again");
            Act::Again
        }
    })
}

/// The ledger lets go first: an engine that dies in between is rebuilt from it.
async fn release(a: &Attempt) -> Result<Act, LedgerError> {
    let order = a.order().await?;
    a.house.ledger.drop_claims(a.right, a.now()).await?;
    if let Err(error) = a.house.seats.free(&order.show, order.hold, &order.guids()).await {
        tracing::warn!(order = %order.id, %error, "the seats were not told that they are free");
        return Ok(Act::Again);
    }
    let reason = order.reason.clone().unwrap_or(Reason::CancelledByBuyer);
    let kind = if reason == Reason::CancelledByBuyer {
        "order.cancelled"
    } else {
        "order.refunded"
    };
    a.house
        .ledger
        .close(
            a.right,
            reason.final_state(),
            Some(event_of(&order, kind)),
            None,
            a.now(),
        )
        .await?;
    a.run.moved();
    Ok(Act::Done)
}
