//! Proofs. A handler that lacks the proof in its signature cannot be written by accident: `SignedIn`, `Placed` and
//! `Admitted` can be made only here, from signatures that were checked.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use http::{Extensions, HeaderMap, Method, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::edge::{
    Door, House, InHouse, SaleOnOffer, SignIn,
    connection::acceptor::Peer,
    errors::problem::{Kind, Problem},
    overload::rate_limit::client_address,
};
use crate::{
    kernel::{SaleId, Subject, Timestamp},
    platform::signing::TokenError,
    shop::Session,
    waiting_room::{Pass, QueueToken, WaitingRoom},
};

/// The sale that the path names.
pub struct OnSale(pub Arc<SaleOnOffer>);

/// A customer of the shop, by her session.
pub struct SignedIn(pub Session);

/// The sale that the path names, and its waiting room.
pub struct AtDoor {
    pub sale: Arc<SaleOnOffer>,
    pub room: Arc<WaitingRoom>,
}

/// The holder of a place in this sale's queue. Her session is checked by [`Placed::owner`] where a call changes something.
pub struct Placed {
    pub sale: Arc<SaleOnOffer>,
    pub room: Arc<WaitingRoom>,
    pub token: QueueToken,
    pub raw: String,
}

/// The holder of a place who has shown that it is hers.
pub struct PlaceOwner(pub Placed);

/// Somebody whom the door let in, with a live pass that is hers.
pub struct Admitted {
    pub sale: Arc<SaleOnOffer>,
    pub pass: Pass,
    pub who: Subject,
}

/// Somebody who was let in, though her pass may have run out meanwhile: enough to pay for what she holds.
pub struct WasAdmitted {
    pub sale: Arc<SaleOnOffer>,
    /// `None` when it has expired.
    pub pass: Option<Pass>,
    pub who: Subject,
}

/// Under which names orders and holds may belong to the caller: her session's, and those of her places in sales
/// without sign-in.
pub struct Owners(pub Vec<Subject>);

/// A JSON body, read within limits of size and time.
pub struct Json<T>(pub T);

/// The caller's `Idempotency-Key`.
pub struct IdempotencyKey(pub Option<String>);

/// The client's address, behind the proxies that the configuration trusts.
pub struct ClientAddress(pub std::net::IpAddr);

const KEY_LENGTH_MAX: usize = 255;

impl<S: InHouse> FromRequestParts<S> for OnSale {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_sale())?;
        let name = params
            .iter()
            .find(|(key, _)| *key == "sale")
            .map(|(_, value)| value)
            .ok_or_else(no_such_sale)?;
        state
            .house()
            .sales
            .get(name)
            .cloned()
            .map(OnSale)
            .ok_or_else(no_such_sale)
    }
}

impl<S: InHouse> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        session(parts, state.house())?
            .map(SignedIn)
            .ok_or_else(|| Problem::new(Kind::SignInRequired))
    }
}

impl FromRequestParts<Door> for AtDoor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let OnSale(sale) = OnSale::from_request_parts(parts, door).await?;
        let room = door.room(&sale.id).ok_or_else(no_such_sale)?;
        Ok(Self { sale, room })
    }
}

impl FromRequestParts<Door> for Placed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let at_door = AtDoor::from_request_parts(parts, door).await?;
        Self::of(parts, door, at_door)
    }
}

impl Placed {
    /// By what a request shows.
    pub(crate) fn of(parts: &Parts, door: &Door, at_door: AtDoor) -> Result<Self, Problem> {
        let AtDoor { sale, room } = at_door;
        let raw = presented(parts, &door.house, "queue-token", &sale.cookies.queue)?
            .ok_or_else(|| Problem::new(Kind::QueueTokenRequired))?
            .to_owned();
        let token = room
            .read_token(&raw)
            .map_err(|e| refused(Kind::QueueTokenRequired, e))?;
        Ok(Self {
            sale,
            room,
            token,
            raw,
        })
    }
}

impl FromRequestParts<Door> for PlaceOwner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let placed = Placed::from_request_parts(parts, door).await?;
        if placed.sale.sign_in == SignIn::Customer {
            let session = session(parts, &door.house)?.ok_or_else(|| Problem::new(Kind::SignInRequired))?;
            if !placed.room.belongs_to(&placed.token, &session.subject) {
                return Err(Problem::new(Kind::NotYours).detail("this place belongs to another customer"));
            }
        }
        Ok(Self(placed))
    }
}

impl<S: InHouse> FromRequestParts<S> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let OnSale(sale) = OnSale::from_request_parts(parts, state).await?;
        let house = state.house();
        let raw = presented(parts, house, "admission-pass", &sale.cookies.pass)?
            .ok_or_else(|| Problem::new(Kind::PassRequired))?;
        let pass = sale
            .papers
            .read_pass(raw)
            .map_err(|e| refused(Kind::PassRequired, e))?;
        let who = holder(parts, house, &sale, &pass)?;
        Ok(Self { sale, pass, who })
    }
}

impl<S: InHouse> FromRequestParts<S> for WasAdmitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let house = state.house();
        let mut refusal = Problem::new(Kind::PassRequired);
        for sale in house.sales.values() {
            let Some(raw) = presented(parts, house, "admission-pass", &sale.cookies.pass)? else {
                continue;
            };
            match sale.papers.read_pass(raw) {
                Ok(pass) => {
                    let who = holder(parts, house, sale, &pass)?;
                    return Ok(Self {
                        sale: Arc::clone(sale),
                        pass: Some(pass),
                        who,
                    });
                }
                Err(TokenError::Expired) => {
                    let who = match sale.sign_in {
                        SignIn::Customer => session(parts, house)?.map(|s| s.subject),
                        SignIn::None => place_holder(parts, house, sale)?,
                    };
                    let who = who.ok_or_else(|| Problem::new(Kind::SignInRequired))?;
                    return Ok(Self {
                        sale: Arc::clone(sale),
                        pass: None,
                        who,
                    });
                }
                Err(e) => refusal = refused(Kind::PassRequired, e),
            }
        }
        Err(refusal)
    }
}

impl<S: InHouse> FromRequestParts<S> for Owners {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let house = state.house();
        // A session that ran out takes nothing from whoever is known by her place.
        let session = session_shown(parts, house)?;
        let mut names: Vec<Subject> = session.map(|s| s.subject).into_iter().collect();
        for sale in house.sales.values().filter(|sale| sale.sign_in == SignIn::None) {
            names.extend(place_holder(parts, house, sale)?);
        }
        if names.is_empty() {
            Err(Problem::new(Kind::SignInRequired))
        } else {
            Ok(Self(names))
        }
    }
}

impl<S: InHouse> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        let key = value
            .to_str()
            .ok()
            .filter(|key| !key.is_empty() && key.len() <= KEY_LENGTH_MAX);
        let problem = || {
            Problem::new(Kind::InvalidField)
                .with("field", &"Idempotency-Key")
                .detail("1 to 255 visible ASCII characters")
        };
        Ok(Self(Some(key.ok_or_else(problem)?.to_owned())))
    }
}

impl<S: InHouse> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        address(&parts.extensions, &parts.headers, state.house())
            .map(Self)
            .ok_or_else(|| Problem::new(Kind::Internal))
    }
}

impl<S: InHouse, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Also the reason why another site's form cannot post here: it cannot send this type without asking first.
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| {
                let kind = v.split(';').next().unwrap_or_default().trim();
                kind.eq_ignore_ascii_case("application/json")
            });
        if !is_json {
            return Err(Problem::new(Kind::NotJson));
        }
        let bytes = read_body(request.into_body(), state.house()).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let field = e.path().to_string();
            let inner = e.into_inner();
            if inner.is_data() {
                Problem::new(Kind::InvalidField)
                    .with("field", &field)
                    .detail(without_place(&inner))
            } else {
                Problem::new(Kind::MalformedRequest).detail(inner.to_string())
            }
        })?;
        json.end()
            .map_err(|e| Problem::new(Kind::MalformedRequest).detail(e.to_string()))?;
        Ok(Self(value))
    }
}

/// The whole body, or the limit that it breaks.
pub(crate) async fn read_body(body: Body, house: &House) -> Result<bytes::Bytes, Problem> {
    let limit = house.config.body_bytes_max;
    let whole = tokio::time::timeout(house.config.body_timeout, Limited::new(body, limit).collect());
    match whole.await {
        Err(_) => Err(Problem::new(Kind::BodyTooSlow)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Problem::new(Kind::BodyTooLarge).detail(format!("at most {limit} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(Kind::MalformedRequest).detail("the body broke off")),
    }
}

/// The name of the session's cookie.
pub(crate) const SESSION_COOKIE: &str = "sd_session";

/// Where a sale asks for no sign-in, a fan is known by her place alone.
#[must_use]
pub(crate) fn subject_of_place(sale: &SaleId, subject_hash: u64) -> Subject {
    Subject::from_stored(&format!("place:{sale}:{subject_hash:016x}"))
        .expect("short enough: a sale's id has at most 64 characters")
}

/// The caller's address.
#[must_use]
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    house: &House,
) -> Option<std::net::IpAddr> {
    let Peer(peer) = extensions.get::<Peer>()?;
    Some(client_address(*peer, headers, &house.config.trusted_proxies))
}

/// The queue token that a joining fan of a sale without sign-in shows, if it is good.
pub(crate) fn place_shown(
    parts: &Parts,
    house: &House,
    sale: &SaleOnOffer,
) -> Result<Option<(QueueToken, String)>, Problem> {
    let raw = presented(parts, house, "queue-token", &sale.cookies.queue)?;
    Ok(raw.and_then(|raw| Some((sale.papers.read_token(raw).ok()?, raw.to_owned()))))
}

/// Her session, if it is good: where none is needed, one that has ended or is forged counts as none.
pub(crate) fn session_shown(parts: &Parts, house: &House) -> Result<Option<Session>, Problem> {
    match session(parts, house) {
        Err(problem) if problem.kind() == Kind::SignInRequired => Ok(None),
        other => other,
    }
}

fn session(parts: &Parts, house: &House) -> Result<Option<Session>, Problem> {
    let raw = match bearer(&parts.headers) {
        Some(raw) => Some(raw),
        None => cookie(parts, house, SESSION_COOKIE)?,
    };
    let Some(raw) = raw else { return Ok(None) };
    house
        .shop
        .read_session(raw)
        .map(Some)
        .map_err(|e| refused(Kind::SignInRequired, e))
}

fn holder(parts: &Parts, house: &House, sale: &SaleOnOffer, pass: &Pass) -> Result<Subject, Problem> {
    match sale.sign_in {
        SignIn::None => Ok(subject_of_place(&sale.id, pass.subject_hash)),
        SignIn::Customer => {
            let session = session(parts, house)?.ok_or_else(|| Problem::new(Kind::SignInRequired))?;
            if !sale.papers.pass_belongs_to(pass, &session.subject) {
                return Err(Problem::new(Kind::NotYours).detail("this pass belongs to another customer"));
            }
            Ok(session.subject)
        }
    }
}

fn place_holder(parts: &Parts, house: &House, sale: &SaleOnOffer) -> Result<Option<Subject>, Problem> {
    let shown = place_shown(parts, house, sale)?;
    Ok(shown.map(|(token, _)| subject_of_place(&sale.id, token.subject_hash)))
}

/// A token from its header, else from its cookie.
fn presented<'a>(
    parts: &'a Parts,
    house: &House,
    header: &str,
    cookie_name: &str,
) -> Result<Option<&'a str>, Problem> {
    if parts.headers.contains_key(header) {
        Ok(only(&parts.headers, header))
    } else {
        cookie(parts, house, cookie_name)
    }
}

/// The value of a header that is there once. Of two, whoever stands before us may have judged the other one, so neither
/// is believed.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// A browser sends cookies along with requests that other sites make; with a cookie as the proof, a request that
/// changes something must come from our own pages.
fn cookie<'a>(parts: &'a Parts, house: &House, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = house.cookies.read(&parts.headers, name) else {
        return Ok(None);
    };
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || is_same_origin(parts, house) {
        Ok(Some(value))
    } else {
        Err(Problem::new(Kind::ForeignOrigin))
    }
}

fn is_same_origin(parts: &Parts, house: &House) -> bool {
    let Some(origin) = parts.headers.get(header::ORIGIN).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    if origin == house.config.public_base {
        return true;
    }
    let host = parts
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| parts.headers.get(header::HOST)?.to_str().ok());
    origin
        .split_once("://")
        .is_some_and(|(_, authority)| Some(authority) == host)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn refused(kind: Kind, why: TokenError) -> Problem {
    Problem::new(kind).detail(why.to_string())
}

fn no_such_sale() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such sale")
}

/// serde_json's message without "at line 1 column 7": the path says it better.
fn without_place(e: &serde_json::Error) -> String {
    let whole = e.to_string();
    whole
        .rsplit_once(" at line ")
        .map_or(whole.clone(), |(message, _)| message.to_owned())
}

/// How long a queue token's cookie lives: until the sale has closed, and a day for what is done afterwards.
#[must_use]
pub(crate) fn cookie_life(sale: &SaleOnOffer, now: Timestamp) -> Duration {
    sale.closes_at.since(now) + Duration::from_hours(24)
}
