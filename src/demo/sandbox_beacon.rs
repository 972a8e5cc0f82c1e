//! A randomness beacon with drand's protocol and signatures, whose secret key follows from the chain's name.
//!
//! It lets a demo or a test hold a draw without the internet. Its rounds are predictable, so it must never be
//! used for a real sale.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use blst::min_sig::SecretKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    kernel::{Clock, Timestamp},
    platform::{
        drand::{self, ChainKey},
        signing::{hex, sha256},
    },
};

/// The rounds of a beacon: round 1 at `genesis_at`, then one every `period_s` seconds.
#[derive(Clone)]
pub struct BeaconConfig {
    /// The chain's hash, 64 hexadecimal digits.
    pub chain: String,
    /// When round 1 is published.
    pub genesis_at: Timestamp,
    /// Seconds between two rounds.
    pub period_s: u32,
    /// Decides which rounds are published.
    pub clock: Arc<dyn Clock>,
}

/// Signs the rounds of one chain with a key derived from the chain's name.
#[derive(Clone)]
pub struct SandboxSigner(SecretKey);

impl SandboxSigner {
    /// The signer of this chain.
    ///
    /// # Panics
    /// Never: key generation needs 32 bytes, and a hash has as many.
    #[must_use]
    pub fn of(chain: &str) -> Self {
        Self(SecretKey::key_gen(&sha256(chain.as_bytes()), b"sandbox beacon").expect("32 bytes make a key"))
    }

    /// The key that verifies the signatures.
    #[must_use]
    pub fn public_key(&self) -> ChainKey {
        ChainKey::new(self.0.sk_to_pk())
    }

    /// The compressed signature of a round.
    #[must_use]
    pub fn sign(&self, round: u64) -> [u8; 48] {
        self.0.sign(&drand::message(round), drand::DOMAIN, &[]).compress()
    }

    /// A round in the JSON form of drand's servers.
    #[must_use]
    pub fn answer(&self, round: u64) -> Value {
        let signature = self.sign(round);
        json!({ "round": round, "randomness": hex(&sha256(&signature)), "signature": hex(&signature) })
    }
}

/// Serves rounds until the process ends.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, config: BeaconConfig) -> std::io::Result<()> {
    axum::serve(
        listener,
        Router::new()
            .route("/{chain}/public/{round}", get(round))
            .with_state(config),
    )
    .await
}

async fn round(State(config): State<BeaconConfig>, Path((chain, round)): Path<(String, u64)>) -> Response {
    let period_s = u64::from(config.period_s.max(1));
    let latest = config.clock.now().since(config.genesis_at).as_secs() / period_s + 1;
    let has_begun = config.clock.now() >= config.genesis_at;
    if chain != config.chain || round == 0 || !has_begun || round > latest {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(SandboxSigner::of(&chain).answer(round)).into_response()
}
