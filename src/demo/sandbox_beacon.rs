//! A randomness beacon that speaks and signs as drand does, with a key that anybody can make: a demo's draw has no stranger
//! to rely on. Never for a sale.

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

/// Which rounds it has: round 1 at `genesis_at`, and so on every `period_s` seconds.
#[derive(Clone)]
pub struct BeaconConfig {
    /// The chain's hash, 64 hexadecimal digits.
    pub chain: String,
    pub genesis_at: Timestamp,
    pub period_s: u32,
    pub clock: Arc<dyn Clock>,
}

/// Signs the rounds of one chain. Its secret follows from the chain's name, so it is none.
#[derive(Clone)]
pub struct SandboxSigner(SecretKey);

impl SandboxSigner {
    /// # Panics
    /// Never: a hash is enough to make a key from.
    #[must_use]
    pub fn of(chain: &str) -> Self {
        Self(SecretKey::key_gen(&sha256(chain.as_bytes()), b"sandbox beacon").expect("32 bytes make a key"))
    }

    #[must_use]
    pub fn public_key(&self) -> ChainKey {
        ChainKey::new(self.0.sk_to_pk())
    }

    #[must_use]
    pub fn sign(&self, round: u64) -> [u8; 48] {
        self.0.sign(&drand::message(round), drand::DOMAIN, &[]).compress()
    }

    /// A round as drand's servers answer it.
    #[must_use]
    pub fn answer(&self, round: u64) -> Value {
        let signature = self.sign(round);
        json!({ "round": round, "randomness": hex(&sha256(&signature)), "signature": hex(&signature) })
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the listener fails.
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
    let over = config.clock.now().since(config.genesis_at).as_secs() / period_s + 1;
    let has_begun = config.clock.now() >= config.genesis_at;
    if chain != config.chain || round == 0 || !has_begun || round > over {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(SandboxSigner::of(&chain).answer(round)).into_response()
}
