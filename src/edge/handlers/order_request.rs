//! The request to buy the seats of a hold.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{edge::errors::problem::Problem, kernel::HoldId};

const PAYMENT_TOKEN_CHARS_MAX: usize = 200;

/// What is paid for, and how.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// The hold whose seats are bought.
    hold: HoldId,
    /// How they are paid for; may be left out for free seats.
    payment: Option<PaymentRequest>,
}

/// How an order is paid for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentRequest {
    /// `card`.
    #[schema(pattern = "^card$")]
    method: String,
    /// The payment gateway's token for the card. Card data never reaches this service.
    #[schema(min_length = 1, max_length = 200)]
    token: String,
}

impl OrderRequest {
    /// The hold, and the token of the card.
    pub(super) fn checked(self) -> Result<(HoldId, Option<String>), Problem> {
        if let Some(payment) = &self.payment {
            check_payment(payment)?;
        }
        Ok((self.hold, self.payment.map(|payment| payment.token)))
    }
}

fn check_payment(payment: &PaymentRequest) -> Result<(), Problem> {
    if payment.method != "card" {
        return Err(Problem::invalid_field(
            "payment.method",
            "the only method is `card`".to_owned(),
        ));
    }
    if payment.token.is_empty() || payment.token.len() > PAYMENT_TOKEN_CHARS_MAX {
        return Err(Problem::invalid_field(
            "payment.token",
            format!("1 to {PAYMENT_TOKEN_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}
