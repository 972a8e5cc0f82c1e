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

use crate::edge::{overload::client_ip::Peer, errors::problem::{Kind, Problem}, overload::client_ip::client_address, state::{AppState, HasAppState, SaleInfo, SignIn, WaitingRoomState}};
use crate::{
    kernel::{SaleId, Subject, Timestamp},
    platform::signing::TokenError,
    shop::Session,
    waiting_room::{Pass, QueueToken, WaitingRoom},
};

/// The sale that the path names.
pub struct OnSale(pub Arc<SaleInfo>);

/// A customer of the shop, by her session.
pub struct SignedIn(pub Session);

/// The sale that the path names, and its waiting room.
pub struct SaleRoom {
    pub sale: Arc<SaleInfo>,
    pub room: Arc<WaitingRoom>,
}

/// The holder of a place in this sale's queue. Her session is checked by [`Placed::owner`] where a call changes something.
pub struct QueueHolder {
    pub sale: Arc<SaleInfo>,
    pub room: Arc<WaitingRoom>,
    pub token: QueueToken,
    pub raw: String,
}

/// The holder of a place who has shown that it is hers.
pub struct VerifiedQueueHolder(pub QueueHolder);

/// Somebody whom the door let in, with a live pass that is hers.
pub struct Admitted {
    pub sale: Arc<SaleInfo>,
    pub pass: Pass,
    pub who: Subject,
}

/// Somebody who was let in, though her pass may have run out meanwhile: enough to pay for what she holds.
pub struct AdmittedOrExpired {
    pub sale: Arc<SaleInfo>,
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

impl<S: HasAppState> FromRequestParts<S> for OnSale {
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
            .app()
            .sales
            .get(name)
            .cloned()
            .map(OnSale)
            .ok_or_else(no_such_sale)
    }
}

impl<S: HasAppState> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        session(parts, state.app())?
            .map(SignedIn)
            .ok_or_else(|| Problem::new(Kind::SignInRequired))
    }
}

impl FromRequestParts<WaitingRoomState> for SaleRoom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &WaitingRoomState) -> Result<Self, Problem> {
        let OnSale(sale) = OnSale::from_request_parts(parts, door).await?;
        let room = door.room(&sale.id).ok_or_else(no_such_sale)?;
        Ok(Self { sale, room })
    }
}

impl FromRequestParts<WaitingRoomState> for QueueHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &WaitingRoomState) -> Result<Self, Problem> {
        let at_door = SaleRoom::from_request_parts(parts, door).await?;
        Self::of(parts, door, at_door)
    }
}

impl QueueHolder {
    /// By what a request shows.
    pub(crate) fn of(parts: &Parts, door: &WaitingRoomState, at_door: SaleRoom) -> Result<Self, Problem> {
        let SaleRoom { sale, room } = at_door;
        let raw = token_from_header_or_cookie(parts, &door.app, "queue-token", &sale.cookies.queue)?
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

impl FromRequestParts<WaitingRoomState> for VerifiedQueueHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &WaitingRoomState) -> Result<Self, Problem> {
        let placed = QueueHolder::from_request_parts(parts, door).await?;
        if placed.sale.sign_in == SignIn::Customer {
            let session = session(parts, &door.app)?.ok_or_else(|| Problem::new(Kind::SignInRequired))?;
            if !placed.room.belongs_to(&placed.token, &session.subject) {
                return Err(Problem::new(Kind::NotOwner).detail("this place belongs to another customer"));
            }
        }
        Ok(Self(placed))
    }
}

impl<S: HasAppState> FromRequestParts<S> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let OnSale(sale) = OnSale::from_request_parts(parts, state).await?;
        let app = state.app();
        let raw = token_from_header_or_cookie(parts, app, "admission-pass", &sale.cookies.pass)?
            .ok_or_else(|| Problem::new(Kind::PassRequired))?;
        let pass = sale
            .tokens
            .read_pass(raw)
            .map_err(|e| refused(Kind::PassRequired, e))?;
        let who = holder(parts, app, &sale, &pass)?;
        Ok(Self { sale, pass, who })
    }
}

impl<S: HasAppState> FromRequestParts<S> for AdmittedOrExpired {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = state.app();
        let mut refusal = Problem::new(Kind::PassRequired);
        for sale in app.sales.values() {
            let Some(raw) = token_from_header_or_cookie(parts, app, "admission-pass", &sale.cookies.pass)? else {
                continue;
            };
            match sale.tokens.read_pass(raw) {
                Ok(pass) => {
                    let who = holder(parts, app, sale, &pass)?;
                    return Ok(Self {
                        sale: Arc::clone(sale),
                        pass: Some(pass),
                        who,
                    });
                }
                Err(TokenError::Expired) => {
                    let who = match sale.sign_in {
                        SignIn::Customer => session(parts, app)?.map(|s| s.subject),
                        SignIn::None => place_holder(parts, app, sale)?,
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

impl<S: HasAppState> FromRequestParts<S> for Owners {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = state.app();
        // A session that ran out takes nothing from whoever is known by her place.
        let session = valid_session(parts, app)?;
        let mut names: Vec<Subject> = session.map(|s| s.subject).into_iter().collect();
        for sale in app.sales.values().filter(|sale| sale.sign_in == SignIn::None) {
            names.extend(place_holder(parts, app, sale)?);
        }
        if names.is_empty() {
            Err(Problem::new(Kind::SignInRequired))
        } else {
            Ok(Self(names))
        }
    }
}

impl<S: HasAppState> FromRequestParts<S> for IdempotencyKey {
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

impl<S: HasAppState> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        address(&parts.extensions, &parts.headers, state.app())
            .map(Self)
            .ok_or_else(|| Problem::new(Kind::Internal))
    }
}

impl<S: HasAppState, T: DeserializeOwned> FromRequest<S> for Json<T> {
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
        let bytes = read_body(request.into_body(), state.app()).await?;
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
pub(crate) async fn read_body(body: Body, app: &AppState) -> Result<bytes::Bytes, Problem> {
    let limit = app.config.body_bytes_max;
    let whole = tokio::time::timeout(app.config.body_timeout, Limited::new(body, limit).collect());
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
pub(crate) fn queue_entry_subject(sale: &SaleId, subject_hash: u64) -> Subject {
    Subject::from_stored(&format!("place:{sale}:{subject_hash:016x}"))
        .expect("short enough: a sale's id has at most 64 characters")
}

/// The caller's address.
#[must_use]
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    app: &AppState,
) -> Option<std::net::IpAddr> {
    let Peer(peer) = extensions.get::<Peer>()?;
    Some(client_address(*peer, headers, &app.config.trusted_proxies))
}

/// The queue token that a joining fan of a sale without sign-in shows, if it is good.
pub(crate) fn presented_queue_token(
    parts: &Parts,
    app: &AppState,
    sale: &SaleInfo,
) -> Result<Option<(QueueToken, String)>, Problem> {
    let raw = token_from_header_or_cookie(parts, app, "queue-token", &sale.cookies.queue)?;
    Ok(raw.and_then(|raw| Some((sale.tokens.read_token(raw).ok()?, raw.to_owned()))))
}

/// Her session, if it is good: where none is needed, one that has ended or is forged counts as none.
pub(crate) fn valid_session(parts: &Parts, app: &AppState) -> Result<Option<Session>, Problem> {
    match session(parts, app) {
        Err(problem) if problem.kind() == Kind::SignInRequired => Ok(None),
        other => other,
    }
}

fn session(parts: &Parts, app: &AppState) -> Result<Option<Session>, Problem> {
    let raw = match bearer(&parts.headers) {
        Some(raw) => Some(raw),
        None => cookie(parts, app, SESSION_COOKIE)?,
    };
    let Some(raw) = raw else { return Ok(None) };
    app
        .shop
        .read_session(raw)
        .map(Some)
        .map_err(|e| refused(Kind::SignInRequired, e))
}

fn holder(parts: &Parts, app: &AppState, sale: &SaleInfo, pass: &Pass) -> Result<Subject, Problem> {
    match sale.sign_in {
        SignIn::None => Ok(queue_entry_subject(&sale.id, pass.subject_hash)),
        SignIn::Customer => {
            let session = session(parts, app)?.ok_or_else(|| Problem::new(Kind::SignInRequired))?;
            if !sale.tokens.pass_belongs_to(pass, &session.subject) {
                return Err(Problem::new(Kind::NotOwner).detail("this pass belongs to another customer"));
            }
            Ok(session.subject)
        }
    }
}

fn place_holder(parts: &Parts, app: &AppState, sale: &SaleInfo) -> Result<Option<Subject>, Problem> {
    let shown = presented_queue_token(parts, app, sale)?;
    Ok(shown.map(|(token, _)| queue_entry_subject(&sale.id, token.subject_hash)))
}

/// A token from its header, else from its cookie.
fn token_from_header_or_cookie<'a>(
    parts: &'a Parts,
    app: &AppState,
    header: &str,
    cookie_name: &str,
) -> Result<Option<&'a str>, Problem> {
    if parts.headers.contains_key(header) {
        Ok(only(&parts.headers, header))
    } else {
        cookie(parts, app, cookie_name)
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
fn cookie<'a>(parts: &'a Parts, app: &AppState, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = app.cookies.read(&parts.headers, name) else {
        return Ok(None);
    };
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || is_same_origin(parts, app) {
        Ok(Some(value))
    } else {
        Err(Problem::new(Kind::CrossOrigin))
    }
}

fn is_same_origin(parts: &Parts, app: &AppState) -> bool {
    let Some(origin) = parts.headers.get(header::ORIGIN).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    if origin == app.config.public_base {
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
pub(crate) fn queue_cookie_ttl(sale: &SaleInfo, now: Timestamp) -> Duration {
    sale.closes_at.since(now) + Duration::from_hours(24)
}
