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

use crate::edge::handlers::{Answer, private_json};
use crate::{
    edge::{
        Door, House, SaleOnOffer, SignIn,
        auth::extractors::{AtDoor, ClientAddress, Json},
        errors::problem::{Kind, Problem},
        overload::proof_of_work::{Challenge, Solution, Spent, Worthless},
    },
    kernel::SaleId,
};

/// What a join may bring along.
#[derive(Default, Deserialize, ToSchema)]
pub struct JoinAsk {
    /// The solution of a challenge; needed where the answer is `proof-required`.
    proof: Option<Solution>,
}

/// Somebody new, who has paid what her place costs.
pub(crate) struct Stranger {
    work: Option<Spent>,
}

impl Stranger {
    /// She got no place for it.
    pub(crate) fn give_back(&self, house: &House) {
        if let Some(work) = &self.work {
            house.proof_of_work.give_back(work);
        }
    }
}

#[utoipa::path(get, path = "/v1/sales/{sale}/queue/challenge", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, body = Challenge, description = "to be answered with a join, once"), (status = 204, description = "a join costs nothing now")))]
pub async fn challenge(
    State(Door { house, .. }): State<Door>,
    AtDoor { sale, .. }: AtDoor,
    ClientAddress(address): ClientAddress,
) -> Answer {
    let bits = if house.proof_of_work.lifts_join_limit() && house.limits.joins.wait(address).is_some() {
        house.proof_of_work.bits_max()
    } else {
        house.proof_of_work.bits(Some(address), house.in_use())
    };
    if sale.sign_in == SignIn::Customer || bits == 0 {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(private_json(
        StatusCode::OK,
        &house.proof_of_work.challenge(&sale.id, bits),
    ))
}

/// Takes what a place costs from somebody who shows neither a place nor a session.
pub(crate) async fn welcome(
    house: &Arc<House>,
    sale: &SaleOnOffer,
    address: Option<IpAddr>,
    parts: Parts,
    body: Body,
) -> Result<Stranger, Problem> {
    let wait = address.and_then(|address| house.limits.joins.wait(address));
    let is_beyond = match wait {
        Some(wait) if !house.proof_of_work.lifts_join_limit() => return Err(too_many_from_here(wait)),
        wait => wait.is_some(),
    };
    let work = if house.proof_of_work.is_asked() {
        work(house, sale, address, is_beyond, parts, body).await?
    } else {
        None
    };
    let stranger = Stranger { work };
    if let Some(address) = address
        && let Err(wait) = house.limits.joins.take(address)
        && !is_beyond
    {
        stranger.give_back(house);
        return Err(too_many_from_here(wait));
    }
    house.proof_of_work.joined_from(address);
    Ok(stranger)
}

async fn work(
    house: &Arc<House>,
    sale: &SaleOnOffer,
    address: Option<IpAddr>,
    is_beyond: bool,
    parts: Parts,
    body: Body,
) -> Result<Option<Spent>, Problem> {
    let desk = &house.proof_of_work;
    let (asked, least) = if is_beyond {
        (desk.bits_max(), desk.bits_max())
    } else {
        (desk.bits(address, house.in_use()), desk.least_bits(address))
    };
    if asked == 0 {
        return Ok(None);
    }
    let ask = if parts.headers.contains_key(header::CONTENT_TYPE) {
        Json::<JoinAsk>::from_request(Request::from_parts(parts, body), house)
            .await?
            .0
    } else {
        JoinAsk::default()
    };
    let refused = |why| Err(proof_required(house, &sale.id, asked, is_beyond, why));
    let Some(solution) = ask.proof else {
        return refused("missing");
    };
    match desk.spend(&sale.id, &solution, least) {
        Ok(spent) => {
            count("accepted");
            Ok(Some(spent))
        }
        Err(Worthless::TooMany) => {
            count(Worthless::TooMany.name());
            Err(Problem::new(Kind::Overloaded).retry_after_s(house.soon_s(2, 10)))
        }
        Err(why) => refused(why.name()),
    }
}

fn proof_required(house: &House, sale: &SaleId, bits: u8, is_beyond: bool, why: &'static str) -> Problem {
    count(why);
    let detail = if is_beyond {
        "many have joined from this address of late, so a place costs the most work; whoever signs in needs none"
    } else {
        "solve the challenge and join again with the solution as `proof`; whoever signs in needs none"
    };
    Problem::new(Kind::ProofRequired)
        .detail(detail)
        .with("reason", &why)
        .with("challenge", &house.proof_of_work.challenge(sale, bits))
        .with("sign_in", &SIGN_IN)
}

/// Where a place can be won back.
const SIGN_IN: &str = "/v1/sign-in";

fn too_many_from_here(wait: std::time::Duration) -> Problem {
    Problem::new(Kind::TooManyRequests)
        .detail("many have joined from this address of late; come again then, or sign in, which is not limited so")
        .with("reason", &"joins_from_this_address")
        .with("sign_in", &SIGN_IN)
        .retry_after_s(wait.as_secs() + 1)
}

fn count(outcome: &'static str) {
    metrics::counter!("edge_proofs_of_work_total", "outcome" => outcome).increment(1);
}
