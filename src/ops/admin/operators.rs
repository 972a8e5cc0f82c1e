//! Operators: who may steer a sale's admission and cancel its orders, and how admission is steered.
//!
//! Each operator has a token. `GET /v1/admin/sales/{sale}` returns the admission settings; `POST
//! /v1/admin/sales/{sale}/commands` executes one command, such as `{"command": "set_admission_rate",
//! "per_minute": 600}`, and returns the settings after it. The journal records every command with its
//! operator and time.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, RawPathParams, rejection::BytesRejection},
};
use http::{StatusCode, request::Parts};

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        overload::rate_limit::IpRateLimit,
        state::{BoxOfficeState, WaitingRoomState},
    },
    kernel::{Entropy, SaleId},
    ops::admin::operator_call::OperatorCall,
    platform::signing::{base64url, hex, sha256},
    waiting_room::{
        ACTIVE_VISITS_MAX, ADMISSION_RATE_PER_MINUTE_MAX, AdmissionSettings, CommandOutcome, CommandRefusal,
        NOTICE_CHARS_MAX, OperatorCommand, WaitingRoom,
    },
};

/// A command is a few words.
pub(super) const COMMAND_BYTES_MAX: usize = 4 * 1024;
const TOKEN_LEN: usize = 32;
/// Stands for the shop where an operator's name does.
const FEED_READER: &str = "the shop's feed reader";

/// Serves operators once the parts of the process are open; until then it answers 503. Cheap to clone.
#[derive(Clone, Default)]
pub struct OperatorApi(pub(super) Arc<OnceLock<OpenParts>>);

pub(super) struct OpenParts {
    /// `None` without this role.
    waiting_room: Option<WaitingRoomState>,
    /// `None` without this role.
    pub(super) box_office: Option<BoxOfficeState>,
    /// Name of the operator by the SHA-256 of the token, in hexadecimal digits. A token is 256 random bits,
    /// so neither its unsalted hash nor the time of a lookup reveals anything about it.
    names: BTreeMap<String, String>,
    /// The SHA-256 of the token with which the shop reads the feed; empty without one.
    feed_token: String,
    /// Wrong tokens of each peer.
    wrong_tokens: IpRateLimit,
}

impl OperatorApi {
    /// Lets the operators (name -> SHA-256 of the token) act on these parts from now on, and the shop read
    /// the feed with the token of the hash `feed_token`. A peer that exceeds `wrong_tokens` is refused unseen
    /// for a while.
    pub fn open(
        &self,
        waiting_room: Option<WaitingRoomState>,
        box_office: Option<BoxOfficeState>,
        operators: &BTreeMap<String, String>,
        feed_token: &str,
        wrong_tokens: IpRateLimit,
    ) {
        let names = operators
            .iter()
            .map(|(name, hash)| (hash.to_ascii_lowercase(), name.clone()))
            .collect();
        let parts = OpenParts {
            waiting_room,
            box_office,
            names,
            feed_token: feed_token.to_ascii_lowercase(),
            wrong_tokens,
        };
        if self.0.set(parts).is_err() {
            tracing::error!("the operators' API was opened twice; keeping the first parts");
        }
    }

    /// Drops the peers whose wrong tokens no longer count. To be called now and then.
    pub fn remove_idle(&self) {
        if let Some(open) = self.0.get() {
            open.wrong_tokens.remove_idle();
        }
    }
}

impl OpenParts {
    /// The name of the operator whose token this is; with `may_read_feed` also [`FEED_READER`].
    pub(super) fn operator(&self, peer: IpAddr, token: &str, may_read_feed: bool) -> Result<String, Problem> {
        self.wrong_tokens.take(peer).map_err(|wait| {
            record_refusal(peer, "too_many");
            Problem::new(ProblemType::TooManyRequests)
                .detail("too many wrong tokens from this address; none is looked at for a while")
                .retry_after_s(wait.as_secs() + 1)
        })?;
        let hash = hex(&sha256(token.as_bytes()));
        if may_read_feed && self.feed_token == hash {
            self.wrong_tokens.give_back(peer);
            return Ok(FEED_READER.to_owned());
        }
        let Some(name) = self.names.get(&hash) else {
            record_refusal(peer, "wrong_token");
            return Err(Problem::new(ProblemType::WrongCredentials).detail("not the token of an operator"));
        };
        self.wrong_tokens.give_back(peer);
        Ok(name.clone())
    }
}

/// The log's own limit of repeated lines keeps a storm from filling it.
fn record_refusal(peer: IpAddr, reason: &'static str) {
    metrics::counter!("stagedoor_operator_refusals_total", "reason" => reason).increment(1);
    tracing::warn!(%peer, reason, "refused the token of an operator's call");
}

/// A new token, and its hash for the configuration.
#[must_use]
pub fn new_token(entropy: &dyn Entropy) -> (String, String) {
    let mut bits = [0; TOKEN_LEN];
    entropy.fill(&mut bits);
    let token = base64url(&bits);
    let hash = hex(&sha256(token.as_bytes()));
    (token, hash)
}

/// Whether a text can be the hash of a token: 64 hexadecimal digits.
#[must_use]
pub fn is_token_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An operator, by the token, and the sale that the path names.
pub(super) struct OperatorAuth {
    pub(super) operator: String,
    pub(super) sale: SaleId,
    api: OperatorApi,
}

impl OperatorAuth {
    /// The sale's waiting room.
    fn room(&self) -> Result<Arc<WaitingRoom>, Problem> {
        let waiting_room = self.api.0.get().and_then(|open| open.waiting_room.as_ref());
        let waiting_room = waiting_room.ok_or_else(|| not_served_here("waiting room"))?;
        waiting_room.room(&self.sale).ok_or_else(no_such_sale)
    }

    /// The sale's box office.
    pub(super) fn box_office(&self) -> Result<BoxOfficeState, Problem> {
        let box_office = self.api.0.get().and_then(|open| open.box_office.as_ref());
        let box_office = box_office.ok_or_else(|| not_served_here("box office"))?;
        box_office.app.sale(&self.sale).ok_or_else(no_such_sale)?;
        Ok(box_office.clone())
    }
}

impl FromRequestParts<OperatorApi> for OperatorAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &OperatorApi) -> Result<Self, Problem> {
        let OperatorCall { operator, api } = OperatorCall::read(parts, api, false)?;
        let sale = path_param(parts, "sale").await.ok_or_else(no_such_sale)?;
        Ok(Self { operator, sale, api })
    }
}

/// A parameter of the path; `None` when it cannot be one.
pub(super) async fn path_param<T: FromStr>(parts: &mut Parts, name: &str) -> Option<T> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let (_, value) = params.iter().find(|(key, _)| *key == name)?;
    value.parse().ok()
}

/// `GET /v1/admin/sales/{sale}`: the admission settings.
pub(super) async fn show(auth: OperatorAuth) -> Result<Json<AdmissionSettings>, Problem> {
    Ok(Json(auth.room()?.admission_settings()))
}

/// `POST /v1/admin/sales/{sale}/commands`: executes one command.
pub(super) async fn execute(
    auth: OperatorAuth,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AdmissionSettings>, Problem> {
    let room = auth.room()?;
    let OperatorAuth { operator, sale, .. } = auth;
    let command = parse_command(&body.map_err(|e| unreadable(&e))?)?;
    let description = format!("{command:?}");
    let outcome = room
        .command(command, &operator)
        .await
        .map_err(|e| Problem::unavailable("an operator's command", &e))?;
    tracing::info!(%sale, operator, command = description, ?outcome, "operator command");
    match outcome {
        CommandOutcome::Done => Ok(Json(room.admission_settings())),
        CommandOutcome::Refused(CommandRefusal::Closed) => Err(Problem::new(ProblemType::Closed)
            .detail("a closed sale cannot be reopened; only its notice can still be changed")),
        CommandOutcome::Refused(CommandRefusal::NotConfirmed) => Err(Problem::invalid_field(
            "confirm",
            format!("closing ends the sale: confirm it with the sale's id, {sale}"),
        )),
        CommandOutcome::Refused(CommandRefusal::NoticeTooLong) => Err(Problem::invalid_field(
            "text",
            format!("a notice has at most {NOTICE_CHARS_MAX} characters"),
        )),
        CommandOutcome::Refused(CommandRefusal::RateTooHigh) => Err(Problem::invalid_field(
            "per_minute",
            format!("must be at most {ADMISSION_RATE_PER_MINUTE_MAX}"),
        )),
        CommandOutcome::Refused(CommandRefusal::VisitsTooMany) => Err(Problem::invalid_field(
            "visits",
            format!("must be at most {ACTIVE_VISITS_MAX}"),
        )),
    }
}

fn parse_command(body: &[u8]) -> Result<OperatorCommand, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let command = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let kind = if error.inner().is_data() {
            ProblemType::InvalidField
        } else {
            ProblemType::MalformedRequest
        };
        Problem::new(kind)
            .with("field", &field)
            .detail(error.into_inner().to_string())
    })?;
    json.end()
        .map_err(|error| Problem::new(ProblemType::MalformedRequest).detail(error.to_string()))?;
    refuse_unknown_fields(body, &command)?;
    Ok(command)
}

/// A field that the command does not have is a mistake that must not pass: the operator meant something by
/// it. serde cannot refuse it in a variant without fields.
fn refuse_unknown_fields(body: &[u8], command: &OperatorCommand) -> Result<(), Problem> {
    type Fields = BTreeMap<String, serde_json::Value>;
    let given: Fields = serde_json::from_slice(body).unwrap_or_default();
    let known = serde_json::to_value(command).unwrap_or_default();
    match given.keys().find(|field| known.get(field.as_str()).is_none()) {
        Some(field) => Err(Problem::invalid_field(
            field,
            "this command has no such field".to_owned(),
        )),
        None => Ok(()),
    }
}

/// The body of an operator's call could not be read.
pub(super) fn unreadable(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemType::BodyTooLarge).detail(format!("at most {COMMAND_BYTES_MAX} bytes"))
    } else {
        Problem::new(ProblemType::MalformedRequest).detail(error.body_text())
    }
}

/// Roles may run in processes of their own; the operator has to ask another one.
pub(super) fn not_served_here(part: &'static str) -> Problem {
    Problem::new(ProblemType::NotFound).detail(format!("this process has no {part}: ask one that has"))
}

fn no_such_sale() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such sale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn a_command_is_parsed_strictly() {
        for (text, command) in [
            (r#"{"command":"pause"}"#, OperatorCommand::Pause),
            (
                r#"{"command":"set_admission_rate","per_minute":0}"#,
                OperatorCommand::SetAdmissionRate { per_minute: 0 },
            ),
            (
                r#"{"command":"set_active_visits_max","visits":7}"#,
                OperatorCommand::SetActiveVisitsMax { visits: 7 },
            ),
            (
                r#"{"command":"notice","text":null}"#,
                OperatorCommand::Notice { text: None },
            ),
        ] {
            assert_eq!(parse_command(text.as_bytes()).unwrap(), command);
        }
        for (text, kind) in [
            ("", ProblemType::MalformedRequest),
            ("{", ProblemType::MalformedRequest),
            (r#"{"command":"open"}"#, ProblemType::InvalidField),
            (
                r#"{"command":"pause","for_minutes":5}"#,
                ProblemType::InvalidField,
            ),
            (
                r#"{"command":"notice","text":"soon","until":"20:00"}"#,
                ProblemType::InvalidField,
            ),
            (
                r#"{"command":"pause"} {"command":"close"}"#,
                ProblemType::MalformedRequest,
            ),
            (r#"{"command":"set_admission_rate"}"#, ProblemType::InvalidField),
            (
                r#"{"command":"set_admission_rate","per_minute":-1}"#,
                ProblemType::InvalidField,
            ),
            (
                r#"{"command":"set_admission_rate","per_minute":1.5}"#,
                ProblemType::InvalidField,
            ),
            (
                r#"{"command":"set_admission_rate","per_minute":4294967296}"#,
                ProblemType::InvalidField,
            ),
            (
                r#"{"command":"set_active_visits_max","visits":"many"}"#,
                ProblemType::InvalidField,
            ),
        ] {
            assert_eq!(parse_command(text.as_bytes()).unwrap_err().kind(), kind, "{text}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let (token, hash) = new_token(&SeededEntropy::new(1));
        assert!(token.len() == 43 && is_token_hash(&hash) && hash == hex(&sha256(token.as_bytes())));
        assert!(!is_token_hash(&token) && !is_token_hash("") && !is_token_hash(&hash[1..]));
    }
}
