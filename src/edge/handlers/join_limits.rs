//! What a join costs: the limit of joins from one address, and in a sale without sign-in the proof of work of
//! an anonymous visitor.
//!
//! No visitor is rejected without a way forward: each problem says why, and that a signed-in customer needs
//! no proof.

use std::{net::IpAddr, time::Duration};

use axum::{extract::State, response::IntoResponse};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json};
use crate::{
    edge::{
        auth::extractors::SaleRoom,
        errors::problem::{Problem, ProblemType},
        handlers::request::ClientAddress,
        overload::proof_of_work::{ProofRejection, Solution, UsedChallenge},
        state::{AppState, SaleInfo, SignIn, WaitingRoomState},
    },
    kernel::SaleId,
};

/// Where signing in lifts the limits of anonymous visitors.
pub(super) const SIGN_IN_PATH: &str = "/v1/sign-in";

/// The optional body of a join.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The solution of a challenge; required where a join is answered with `proof-required`.
    pub(super) proof: Option<Solution>,
}

/// An anonymous visitor who has paid for a queue entry.
pub(crate) struct AnonymousVisitor {
    proof: Option<UsedChallenge>,
}

impl AnonymousVisitor {
    /// Makes the proof usable again, since it bought no entry.
    pub(crate) fn release_proof(&self, app: &AppState) {
        if let Some(proof) = &self.proof {
            app.proof_of_work.release(proof);
        }
    }
}

/// `GET /v1/sales/{sale}/queue/challenge`: a challenge to solve before the join.
pub async fn challenge(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, .. }: SaleRoom,
    ClientAddress(address): ClientAddress,
) -> HandlerResult {
    let bits = if app.proof_of_work.allow_over_join_limit() && app.limits.joins.wait(address).is_some() {
        app.proof_of_work.difficulty_bits_max()
    } else {
        app.proof_of_work.bits(Some(address), app.headroom())
    };
    if sale.sign_in == SignIn::Customer || bits == 0 {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(private_json(
        StatusCode::OK,
        &app.proof_of_work.challenge(&sale.id, bits),
    ))
}

/// Takes from a visitor who shows neither a queue token nor a session what an entry costs.
pub(crate) fn admit_anonymous(
    app: &AppState,
    sale: &SaleInfo,
    address: Option<IpAddr>,
    proof: Option<&Solution>,
) -> Result<AnonymousVisitor, Problem> {
    let wait = address.and_then(|address| app.limits.joins.wait(address));
    let is_over_limit = match wait {
        Some(wait) if !app.proof_of_work.allow_over_join_limit() => {
            return Err(join_limit_reached(app, wait));
        }
        wait => wait.is_some(),
    };
    let proof = if app.proof_of_work.is_enabled() {
        spend_proof(app, sale, address, is_over_limit, proof)?
    } else {
        None
    };
    let visitor = AnonymousVisitor { proof };
    // Another join may have reached the limit meanwhile.
    if let Some(address) = address
        && let Err(wait) = app.limits.joins.take(address)
        && !is_over_limit
    {
        visitor.release_proof(app);
        return Err(join_limit_reached(app, wait));
    }
    app.proof_of_work.record_join(address);
    Ok(visitor)
}

fn spend_proof(
    app: &AppState,
    sale: &SaleInfo,
    address: Option<IpAddr>,
    is_over_limit: bool,
    proof: Option<&Solution>,
) -> Result<Option<UsedChallenge>, Problem> {
    let proof_of_work = &app.proof_of_work;
    let (required_bits, accepted_bits_min) = if is_over_limit {
        (
            proof_of_work.difficulty_bits_max(),
            proof_of_work.difficulty_bits_max(),
        )
    } else {
        (
            proof_of_work.bits(address, app.headroom()),
            proof_of_work.accepted_bits_min(address),
        )
    };
    if required_bits == 0 {
        return Ok(None);
    }
    let rejected = |reason| {
        Err(proof_required(
            app,
            &sale.id,
            required_bits,
            is_over_limit,
            reason,
        ))
    };
    let Some(solution) = proof else {
        return rejected("missing");
    };
    match proof_of_work.redeem(&sale.id, solution, accepted_bits_min) {
        Ok(used) => {
            count_proof("accepted");
            Ok(Some(used))
        }
        Err(ProofRejection::TooManyUsed) => {
            count_proof(ProofRejection::TooManyUsed.name());
            Err(Problem::new(ProblemType::Overloaded).retry_after_s(app.retry_after_jitter_s(2, 10)))
        }
        Err(rejection) => rejected(rejection.name()),
    }
}

fn proof_required(
    app: &AppState,
    sale: &SaleId,
    bits: u8,
    is_over_limit: bool,
    reason: &'static str,
) -> Problem {
    count_proof(reason);
    let detail = if is_over_limit {
        "many visitors have joined from this address, so an entry costs the most work; signing in needs no \
            proof"
    } else {
        "solve the challenge and join again with the solution as `proof`; signing in needs no proof"
    };
    Problem::new(ProblemType::ProofRequired)
        .detail(detail)
        .with("reason", &reason)
        .with("challenge", &app.proof_of_work.challenge(sale, bits))
        .with("sign_in", &app.config.public_base.host_path(SIGN_IN_PATH))
}

fn join_limit_reached(app: &AppState, wait: Duration) -> Problem {
    Problem::new(ProblemType::TooManyRequests)
        .detail(
            "many visitors have joined from this address; retry later, or sign in, which has no such limit",
        )
        .with("reason", &"joins_from_this_address")
        .with("sign_in", &app.config.public_base.host_path(SIGN_IN_PATH))
        .retry_after_s(wait.as_secs() + 1)
}

fn count_proof(outcome: &'static str) {
    metrics::counter!("stagedoor_proof_of_work_total", "outcome" => outcome).increment(1);
}
