//! A randomness beacon that speaks as drand does and that anybody can compute in advance: a demo's draw has no stranger to
//! rely on. Never for a sale.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    kernel::{Clock, Timestamp},
    platform::signing::{hex, sha256},
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

/// Serves until the process ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, config: BeaconConfig) -> std::io::Result<()> {
    axum::serve(listener, Router::new().route("/{chain}/public/{round}", get(round)).with_state(config)).await
}

async fn round(State(config): State<BeaconConfig>, Path((chain, round)): Path<(String, u64)>) -> Response {
    let period_s = u64::from(config.period_s.max(1));
    let over = config.clock.now().since(config.genesis_at).as_secs() / period_s + 1;
    let has_begun = config.clock.now() >= config.genesis_at;
    if chain != config.chain || round == 0 || !has_begun || round > over {
        return StatusCode::NOT_FOUND.into_response();
    }
    let signature = sha256(format!("{chain}/{round}").as_bytes());
    Json(json!({ "round": round, "randomness": hex(&sha256(&signature)), "signature": hex(&signature) })).into_response()
}
