//! Operators' commands: who may steer a sale's admission, and how.
//!
//! Each operator has a token. `GET /v1/admin/sales/{sale}` returns the admission settings; `POST
//! /v1/admin/sales/{sale}/commands` executes one command, such as `{"command": "set_admission_rate",
//! "per_minute": 600}`, and returns the settings after it. The journal records every command with its
//! operator and time.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, rejection::BytesRejection},
};
use http::{StatusCode, header, request::Parts};

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        overload::{client_ip::Peer, rate_limit::IpRateLimit},
    },
    kernel::{Entropy, SaleId},
    platform::signing::{base64url, hex, sha256},
    waiting_room::{
        ACTIVE_VISITS_MAX, ADMISSION_RATE_PER_MINUTE_MAX, AdmissionSettings, CommandOutcome, CommandRefusal,
        NOTICE_CHARS_MAX, OperatorCommand, WaitingRoom,
    },
};

/// A command is a few words.
pub(super) const COMMAND_BYTES_MAX: usize = 4 * 1024;
const TOKEN_LEN: usize = 32;

/// Executes commands once the waiting rooms are open; until then it answers 503. Cheap to clone.
#[derive(Clone, Default)]
pub struct OperatorApi(Arc<OnceLock<OpenRooms>>);

struct OpenRooms {
    rooms: BTreeMap<SaleId, Arc<WaitingRoom>>,
    /// Name of the operator by the SHA-256 of the token, in hexadecimal digits. A token is 256 random bits,
    /// so neither its unsalted hash nor the time of a lookup reveals anything about it.
    names: BTreeMap<String, String>,
    /// Wrong tokens of each peer.
    wrong_tokens: IpRateLimit,
}

impl OperatorApi {
    /// Lets the operators (name -> SHA-256 of the token) steer these rooms from now on. A peer that exceeds
    /// `wrong_tokens` is refused unseen for a while.
    pub fn publish_rooms(
        &self,
        rooms: &BTreeMap<SaleId, Arc<WaitingRoom>>,
        operators: &BTreeMap<String, String>,
        wrong_tokens: IpRateLimit,
    ) {
        let names = operators
            .iter()
            .map(|(name, hash)| (hash.to_ascii_lowercase(), name.clone()))
            .collect();
        if self
            .0
            .set(OpenRooms {
                rooms: rooms.clone(),
                names,
                wrong_tokens,
            })
            .is_err()
        {
            tracing::error!("the operators' API was opened twice; keeping the first rooms");
        }
    }

    /// Drops the peers whose wrong tokens no longer count. To be called now and then.
    pub fn remove_idle(&self) {
        if let Some(open) = self.0.get() {
            open.wrong_tokens.remove_idle();
        }
    }
}

impl OpenRooms {
    /// The name of the operator whose token this is.
    fn operator(&self, peer: IpAddr, token: &str) -> Result<String, Problem> {
        self.wrong_tokens.take(peer).map_err(|wait| {
            record_refusal(peer, "too_many");
            Problem::new(ProblemType::TooManyRequests)
                .detail("too many wrong tokens from this address; none is looked at for a while")
                .retry_after_s(wait.as_secs() + 1)
        })?;
        let Some(name) = self.names.get(&hex(&sha256(token.as_bytes()))) else {
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
    operator: String,
    sale: SaleId,
    room: Arc<WaitingRoom>,
}

impl FromRequestParts<OperatorApi> for OperatorAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &OperatorApi) -> Result<Self, Problem> {
        let open = api.0.get().ok_or_else(|| {
            Problem::new(ProblemType::TemporarilyUnavailable)
                .detail("the waiting rooms are not open yet")
                .retry_after_s(1)
        })?;
        let authorization = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Problem::new(ProblemType::SignInRequired)
                .detail("an operator's token is required: Authorization: Bearer TOKEN")
        })?;
        let token = authorization
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        let Some(Peer(peer)) = parts.extensions.get() else {
            return Err(Problem::internal("an operator's call", &"its peer is unknown"));
        };
        let operator = open.operator(*peer, token)?;
        let Path(sale) = Path::<String>::from_request_parts(parts, &())
            .await
            .map_err(|_| no_such_sale())?;
        let sale: SaleId = sale.parse().map_err(|_| no_such_sale())?;
        let room = open.rooms.get(&sale).cloned().ok_or_else(no_such_sale)?;
        Ok(Self { operator, sale, room })
    }
}

/// `GET /v1/admin/sales/{sale}`: the admission settings.
pub(super) async fn show(OperatorAuth { room, .. }: OperatorAuth) -> Json<AdmissionSettings> {
    Json(room.admission_settings())
}

/// `POST /v1/admin/sales/{sale}/commands`: executes one command.
pub(super) async fn execute(
    OperatorAuth { operator, sale, room }: OperatorAuth,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AdmissionSettings>, Problem> {
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

fn unreadable(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemType::BodyTooLarge).detail(format!("at most {COMMAND_BYTES_MAX} bytes"))
    } else {
        Problem::new(ProblemType::MalformedRequest).detail(error.body_text())
    }
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
