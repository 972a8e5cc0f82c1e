//! Sign-in by the shop's hand-offs: sent by a program, or deposited here and redeemed by the customer's
//! browser with a code.

use std::time::Duration;

use crate::{
    kernel::Timestamp,
    shop::{
        handoff::{Handoff, HandoffCode, HandoffError, Refusal, SignInState},
        replay_guard::UsedToken,
        service::{Shop, count},
        types::SignInOutcome,
    },
};

/// A node whose clock is ahead must not forget what another still takes: clocks may be five seconds apart, in
/// both directions.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);

/// What became of a hand-off that was deposited.
#[derive(Debug)]
pub enum DepositOutcome {
    /// It can be redeemed once.
    Deposited {
        /// The code for the customer's browser.
        code: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// As for a sign-in; never [`SignInOutcome::SignedIn`].
    Refused(SignInOutcome),
}

impl Shop {
    /// Signs in a customer whom the shop has handed over. Each hand-off works once; forged, expired and used
    /// ones are [`SignInOutcome::HandoffRejected`].
    pub async fn sign_in_by_handoff(&self, token: &str) -> SignInOutcome {
        let outcome = match self.take_handoff(token).await {
            Ok(handoff) => SignInOutcome::SignedIn(self.new_session(handoff.customer, handoff.name)),
            Err(refused) => refused,
        };
        count(&outcome, "handoff");
        outcome
    }

    /// Begins a sign-in at the shop; the browser that begins it keeps the state and gets back to
    /// `return_path`.
    #[must_use]
    pub fn new_sign_in_state(&self, return_path: &str) -> String {
        SignInState::new(return_path, self.clock.now(), &*self.entropy).seal(&self.keys.handoff)
    }

    /// Reads a state; `None` when it is forged or older than [`SignInState::TTL`].
    #[must_use]
    pub fn read_sign_in_state(&self, state: &str) -> Option<SignInState> {
        SignInState::open(state, &self.keys.handoff, self.clock.now())
    }

    /// Takes a hand-off and gives a code for it, with which the customer's browser signs in.
    pub async fn deposit_handoff(&self, token: &str) -> DepositOutcome {
        match self.take_handoff(token).await {
            Ok(Handoff { customer, name, .. }) => {
                let code = HandoffCode::new(customer, name, self.clock.now(), &*self.entropy);
                DepositOutcome::Deposited {
                    code: code.seal(&self.keys.handoff),
                    expires_at: code.expires_at,
                }
            }
            Err(refused) => {
                count(&refused, "handoff_code");
                DepositOutcome::Refused(refused)
            }
        }
    }

    /// Signs in the customer whose browser brings the code of a deposited hand-off and the state that it
    /// began with. Both work once.
    pub async fn sign_in_by_code(&self, state: &SignInState, code: &str) -> SignInOutcome {
        let outcome = match self.redeem(state, code).await {
            Ok(code) => SignInOutcome::SignedIn(self.new_session(code.customer, code.name)),
            Err(refused) => refused,
        };
        count(&outcome, "handoff_code");
        outcome
    }

    async fn redeem(&self, state: &SignInState, code: &str) -> Result<HandoffCode, SignInOutcome> {
        let code = HandoffCode::open(code, &self.keys.handoff, self.clock.now())
            .ok_or(SignInOutcome::HandoffRejected(HandoffError::UNKNOWN_CODE))?;
        self.use_state(state).await?;
        self.use_once(
            UsedToken::OneTime(code.id),
            code.expires_at,
            HandoffError::UNKNOWN_CODE,
        )
        .await?;
        Ok(code)
    }

    pub(super) async fn use_state(&self, state: &SignInState) -> Result<(), SignInOutcome> {
        self.use_once(
            UsedToken::OneTime(state.id),
            state.expires_at,
            HandoffError::STATE,
        )
        .await
    }

    /// Verifies a hand-off and uses it.
    async fn take_handoff(&self, token: &str) -> Result<Handoff, SignInOutcome> {
        let Some(handoffs) = &self.handoffs else {
            return Err(SignInOutcome::HandoffRejected(HandoffError::NOT_CONFIGURED));
        };
        let handoff = handoffs.verify(token).await.map_err(|refusal| match refusal {
            Refusal::Invalid(error) => SignInOutcome::HandoffRejected(error),
            Refusal::NoKeys => SignInOutcome::Unreachable {
                retry_after: self.soon(),
            },
        })?;
        let used = UsedToken::Handoff(handoff.jti.clone());
        self.use_once(used, handoff.forget_after, HandoffError::USED)
            .await?;
        Ok(handoff)
    }

    async fn use_once(
        &self,
        token: UsedToken,
        forget_after: Timestamp,
        if_used: HandoffError,
    ) -> Result<(), SignInOutcome> {
        match self
            .replay_guard
            .use_once(token, forget_after.plus(CLOCK_TOLERANCE))
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(SignInOutcome::HandoffRejected(if_used)),
            Err(_) => Err(SignInOutcome::Busy {
                retry_after: self.soon(),
            }),
        }
    }

    /// One to two seconds, so that callers do not return all at once.
    pub(super) fn soon(&self) -> Duration {
        Duration::from_secs(1).mul_f64(1.0 + self.entropy.unit())
    }
}
