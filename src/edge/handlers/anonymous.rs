//! Joining a sale that asks nobody who she is: what a stranger's place costs, and what an address gets that wants too
//! many of them. Nobody is shut out in silence: the answer says why, and that whoever signs in pays nothing.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequest, Request, State},
    response::IntoResponse,
};
use http::{StatusCode, header, request::Parts};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json};
use crate::{
    edge::{auth::extractors::{SaleRoom, ClientAddress, Json}, errors::problem::{Kind, Problem}, overload::proof_of_work::{Challenge, Solution, UsedChallenge, ProofRejection}, state::{AppState, SaleInfo, SignIn, WaitingRoomState}},
    kernel::SaleId,
};

/// What a join may bring along.
#[derive(Default, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// The solution of a challenge; needed where the answer is `proof-required`.
    proof: Option<Solution>,
}

/// Somebody new, who has paid what her place costs.
pub(crate) struct AnonymousVisitor {
    work: Option<UsedChallenge>,
}

impl AnonymousVisitor {
    /// She got no place for it.
    pub(crate) fn release_proof(&self, app: &AppState) {
        if let Some(work) = &self.work {
            app.proof_of_work.release(work);
        }
    }
}

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

/// Takes what a place costs from somebody who shows neither a place nor a session.
pub(crate) async fn admit_anonymous(
    app: &Arc<AppState>,
    sale: &SaleInfo,
    address: Option<IpAddr>,
    parts: Parts,
    body: Body,
) -> Result<AnonymousVisitor, Problem> {
    let wait = address.and_then(|address| app.limits.joins.wait(address));
    let is_beyond = match wait {
        Some(wait) if !app.proof_of_work.allow_over_join_limit() => return Err(join_limit_reached(wait)),
        wait => wait.is_some(),
    };
    let work = if app.proof_of_work.is_enabled() {
        spend_proof(app, sale, address, is_beyond, parts, body).await?
    } else {
        None
    };
    let stranger = AnonymousVisitor { work };
    if let Some(address) = address
        && let Err(wait) = app.limits.joins.take(address)
        && !is_beyond
    {
        stranger.release_proof(app);
        return Err(join_limit_reached(wait));
    }
    app.proof_of_work.record_join(address);
    Ok(stranger)
}

async fn spend_proof(
    app: &Arc<AppState>,
    sale: &SaleInfo,
    address: Option<IpAddr>,
    is_beyond: bool,
    parts: Parts,
    body: Body,
) -> Result<Option<UsedChallenge>, Problem> {
    let desk = &app.proof_of_work;
    let (asked, least) = if is_beyond {
        (desk.difficulty_bits_max(), desk.difficulty_bits_max())
    } else {
        (desk.bits(address, app.headroom()), desk.accepted_bits_min(address))
    };
    if asked == 0 {
        return Ok(None);
    }
    let ask = if parts.headers.contains_key(header::CONTENT_TYPE) {
        Json::<JoinRequest>::from_request(Request::from_parts(parts, body), app)
            .await?
            .0
    } else {
        JoinRequest::default()
    };
    let refused = |why| Err(proof_required(app, &sale.id, asked, is_beyond, why));
    let Some(solution) = ask.proof else {
        return refused("missing");
    };
    match desk.redeem(&sale.id, &solution, least) {
        Ok(spent) => {
            count_proof("accepted");
            Ok(Some(spent))
        }
        Err(ProofRejection::TooMany) => {
            count_proof(ProofRejection::TooMany.name());
            Err(Problem::new(Kind::Overloaded).retry_after_s(app.retry_after_jitter_s(2, 10)))
        }
        Err(why) => refused(why.name()),
    }
}

fn proof_required(app: &AppState, sale: &SaleId, bits: u8, is_beyond: bool, why: &'static str) -> Problem {
    count_proof(why);
    let detail = if is_beyond {
        "many have joined from this address of late, so a place costs the most work; whoever signs in needs none"
    } else {
        "solve the challenge and join again with the solution as `proof`; whoever signs in needs none"
    };
    Problem::new(Kind::ProofRequired)
        .detail(detail)
        .with("reason", &why)
        .with("challenge", &app.proof_of_work.challenge(sale, bits))
        .with("sign_in", &SIGN_IN_PATH)
}

/// Where a place can be won back.
const SIGN_IN_PATH: &str = "/v1/sign-in";

fn join_limit_reached(wait: std::time::Duration) -> Problem {
    Problem::new(Kind::TooManyRequests)
        .detail("many have joined from this address of late; come again then, or sign in, which is not limited so")
        .with("reason", &"joins_from_this_address")
        .with("sign_in", &SIGN_IN_PATH)
        .retry_after_s(wait.as_secs() + 1)
}

fn count_proof(outcome: &'static str) {
    metrics::counter!("edge_proofs_of_work_total", "outcome" => outcome).increment(1);
}
