//! Sign-in by the shop's hand-offs: sent as JSON, brought by the browser in a form, or deposited by the shop
//! and redeemed by the browser with a code.

use std::time::Duration;

use crate::{
    kernel::{Subject, Timestamp},
    shop::{
        handoff::{Handoff, HandoffCode, HandoffError, Refusal, SignInState},
        replay_guard::UsedToken,
        service::{Shop, count},
        types::SignInOutcome,
    },
};

/// What became of a hand-off that the shop deposits.
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
        let outcome = match self.verified(token).await {
            Ok(handoff) => self.accept(handoff).await,
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

    /// Signs in the customer whose browser brings a hand-off and the state that it began with. Both work
    /// once.
    pub async fn sign_in_by_form(&self, state: &SignInState, token: &str) -> SignInOutcome {
        let outcome = match self.verified(token).await {
            Ok(handoff) => match self.use_state(state).await {
                Ok(()) => self.accept(handoff).await,
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        count(&outcome, "handoff_form");
        outcome
    }

    /// Takes a hand-off from the shop itself and gives a code for it.
    pub async fn deposit_handoff(&self, token: &str) -> DepositOutcome {
        let handoff = match self.verified(token).await {
            Ok(handoff) => handoff,
            Err(refused) => return DepositOutcome::Refused(refused),
        };
        let used = UsedToken::Handoff(handoff.jti);
        if let Err(refused) = self
            .use_once(used, handoff.forget_after, HandoffError::USED)
            .await
        {
            return DepositOutcome::Refused(refused);
        }
        let code = HandoffCode::new(handoff.customer, handoff.name, self.clock.now(), &*self.entropy);
        DepositOutcome::Deposited {
            code: code.seal(&self.keys.handoff),
            expires_at: code.expires_at,
        }
    }

    /// Signs in the customer whose browser brings the code of a deposited hand-off and the state that it
    /// began with. Both work once.
    pub async fn sign_in_by_code(&self, state: &SignInState, code: &str) -> SignInOutcome {
        let outcome = self.redeem(state, code).await;
        count(&outcome, "handoff_code");
        outcome
    }

    async fn redeem(&self, state: &SignInState, code: &str) -> SignInOutcome {
        let Some(code) = HandoffCode::open(code, &self.keys.handoff, self.clock.now()) else {
            return SignInOutcome::HandoffRejected(HandoffError::UNKNOWN_CODE);
        };
        if let Err(refused) = self.use_state(state).await {
            return refused;
        }
        let used = UsedToken::OneTime(code.id);
        match self
            .use_once(used, code.expires_at, HandoffError::UNKNOWN_CODE)
            .await
        {
            Ok(()) => self.signed_in(code.customer, code.name),
            Err(refused) => refused,
        }
    }

    async fn use_state(&self, state: &SignInState) -> Result<(), SignInOutcome> {
        let used = UsedToken::OneTime(state.id);
        self.use_once(used, state.expires_at, HandoffError::STATE).await
    }

    /// A valid hand-off, which may have been used before.
    async fn verified(&self, token: &str) -> Result<Handoff, SignInOutcome> {
        let Some(handoffs) = &self.handoffs else {
            return Err(SignInOutcome::HandoffRejected(HandoffError::NOT_CONFIGURED));
        };
        handoffs.verify(token).await.map_err(|refusal| match refusal {
            Refusal::Invalid(error) => SignInOutcome::HandoffRejected(error),
            Refusal::NoKeys => SignInOutcome::Unreachable {
                retry_after: self.soon(),
            },
        })
    }

    async fn accept(&self, handoff: Handoff) -> SignInOutcome {
        let used = UsedToken::Handoff(handoff.jti);
        match self
            .use_once(used, handoff.forget_after, HandoffError::USED)
            .await
        {
            Ok(()) => self.signed_in(handoff.customer, handoff.name),
            Err(refused) => refused,
        }
    }

    fn signed_in(&self, customer: Subject, name: String) -> SignInOutcome {
        SignInOutcome::SignedIn(self.new_session(customer, name))
    }

    async fn use_once(
        &self,
        token: UsedToken,
        forget_after: Timestamp,
        if_used: HandoffError,
    ) -> Result<(), SignInOutcome> {
        match self.replay_guard.use_once(token, forget_after).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SignInOutcome::HandoffRejected(if_used)),
            Err(_) => Err(SignInOutcome::Busy {
                retry_after: self.soon(),
            }),
        }
    }

    /// One to two seconds, so that callers do not return all at once.
    fn soon(&self) -> Duration {
        Duration::from_secs(1).mul_f64(1.0 + self.entropy.unit())
    }
}
