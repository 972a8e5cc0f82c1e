//! Sign-in at the shop's OpenID provider.

use crate::shop::{
    handoff::{HandoffError, SignInState},
    oidc::{ExchangeError, new_code_verifier},
    service::{Shop, count},
    types::SignInOutcome,
};

impl Shop {
    /// Begins a sign-in at the provider: where the browser goes, and the state that it keeps.
    ///
    /// # Errors
    /// [`SignInOutcome::Unreachable`] while the provider is not discovered.
    pub fn begin_at_provider(&self, return_path: &str) -> Result<(String, String), SignInOutcome> {
        let unreachable = || SignInOutcome::Unreachable {
            retry_after: self.soon(),
        };
        let provider = self.provider.as_ref().ok_or_else(unreachable)?;
        let code_verifier = new_code_verifier(&*self.entropy);
        let state = SignInState {
            code_verifier,
            ..SignInState::new(return_path, self.clock.now(), &*self.entropy)
        };
        let sealed = state.seal(&self.keys.handoff);
        let url = provider
            .authorization(&sealed, &state.code_verifier)
            .ok_or_else(unreachable)?;
        Ok((url, sealed))
    }

    /// Signs in the customer whose browser brings the provider's code and the state that it began with. Both
    /// work once.
    pub async fn sign_in_by_provider(&self, state: &SignInState, code: &str) -> SignInOutcome {
        let outcome = self.exchange(state, code).await;
        let outcome = outcome.unwrap_or_else(|refused| refused);
        count(&outcome, "oidc");
        outcome
    }

    async fn exchange(&self, state: &SignInState, code: &str) -> Result<SignInOutcome, SignInOutcome> {
        let unreachable = || SignInOutcome::Unreachable {
            retry_after: self.soon(),
        };
        let provider = self.provider.as_ref().ok_or_else(unreachable)?;
        match provider.exchange(code, &state.code_verifier).await {
            Ok(token) => {
                // After the exchange: what fails for a moment works when the browser asks again, and a code
                // that the provider does not know leaves no trace here.
                self.use_state(state).await?;
                Ok(SignInOutcome::SignedIn(
                    self.new_session(token.customer, token.name),
                ))
            }
            Err(ExchangeError::Busy) => Err(SignInOutcome::Busy {
                retry_after: self.soon(),
            }),
            Err(error) => {
                tracing::warn!(%error, "a sign-in at the OpenID provider failed");
                Err(match error {
                    ExchangeError::IdToken(why) => {
                        SignInOutcome::HandoffRejected(HandoffError::new("id_token", why))
                    }
                    // Other refusals are about this service, not about the customer.
                    ExchangeError::Status(400) => {
                        SignInOutcome::HandoffRejected(HandoffError::new("code", "the provider refuses it"))
                    }
                    _ => unreachable(),
                })
            }
        }
    }
}
