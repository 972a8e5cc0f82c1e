//! Operators: who may steer a sale's door, and how. On the private listener, under a token of each operator's own:
//! `GET /v1/admin/sales/{sale}` says how the door is set, `POST /v1/admin/sales/{sale}/orders` takes one order, for
//! instance `{"order": "rate", "per_minute": 600}`, and answers how the door is set then. Every order is in the journal,
//! with who gave it and when.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path},
    routing::{get, post},
};
use http::{header, request::Parts};

use crate::{
    edge::errors::problem::{Kind, Problem},
    kernel::{Entropy, SaleId},
    platform::signing::{base64url, hex, sha256},
    waiting_room::{CommandOutcome, DoorState, NOTICE_CHARS_MAX, OperatorCommand, Refusal, WaitingRoom},
};

/// An order is a few words.
const COMMAND_BYTES_MAX: usize = 4 * 1024;
const TOKEN_LEN: usize = 32;

/// Takes orders once the waiting rooms are open. Cheap to clone.
#[derive(Clone, Default)]
pub struct OperatorApi(Arc<OnceLock<OpenRooms>>);

struct OpenRooms {
    rooms: BTreeMap<SaleId, Arc<WaitingRoom>>,
    /// Who it is whose token has this SHA-256, in hexadecimal digits. A token is 256 random bits, so its plain hash gives
    /// nothing away, and how long a comparison takes neither.
    names: BTreeMap<String, String>,
}

impl OperatorApi {
    /// From now on the operators (name -> SHA-256 of the token) may steer these rooms.
    pub fn publish_rooms(&self, rooms: &BTreeMap<SaleId, Arc<WaitingRoom>>, operators: &BTreeMap<String, String>) {
        let names = operators
            .iter()
            .map(|(name, hash)| (hash.to_ascii_lowercase(), name.clone()))
            .collect();
        if self
            .0
            .set(OpenRooms {
                rooms: rooms.clone(),
                names,
            })
            .is_err()
        {
            tracing::error!("the operators' desk was open already");
        }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/admin/sales/{sale}", get(show))
            .route("/v1/admin/sales/{sale}/orders", post(execute))
            .layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))
            .with_state(self)
    }
}

/// A new token, and the hash of it that the configuration takes.
#[must_use]
pub fn new_token(entropy: &dyn Entropy) -> (String, String) {
    let mut bits = [0; TOKEN_LEN];
    entropy.fill(&mut bits);
    let token = base64url(&bits);
    let hash = hex(&sha256(token.as_bytes()));
    (token, hash)
}

/// Whether a text can be the hash of a token.
#[must_use]
pub fn is_token_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An operator before the door of a sale: the proof is her token.
struct OperatorAuth {
    operator: String,
    sale: SaleId,
    room: Arc<WaitingRoom>,
}

impl FromRequestParts<OperatorApi> for OperatorAuth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &OperatorApi) -> Result<Self, Problem> {
        let desk = desk.0.get().ok_or_else(|| {
            Problem::new(Kind::TemporarilyUnavailable)
                .detail("no waiting room is open here")
                .retry_after_s(1)
        })?;
        let given = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Problem::new(Kind::SignInRequired)
                .detail("an operator's token is needed: Authorization: Bearer TOKEN")
        })?;
        let token = given
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let operator = token.and_then(|(_, token)| desk.names.get(&hex(&sha256(token.trim().as_bytes()))));
        let operator = operator
            .ok_or_else(|| Problem::new(Kind::WrongCredentials).detail("it is no operator's token"))?
            .clone();
        let Path(sale) = Path::<String>::from_request_parts(parts, &())
            .await
            .map_err(|_| no_such_sale())?;
        let sale: SaleId = sale.parse().map_err(|_| no_such_sale())?;
        let room = desk.rooms.get(&sale).cloned().ok_or_else(no_such_sale)?;
        Ok(Self { operator, sale, room })
    }
}

async fn show(OperatorAuth { room, .. }: OperatorAuth) -> Json<DoorState> {
    Json(room.door_state())
}

async fn execute(OperatorAuth { operator, sale, room }: OperatorAuth, body: Bytes) -> Result<Json<DoorState>, Problem> {
    let command = parse_command(&body)?;
    let said = format!("{command:?}");
    let outcome = room
        .order(command, &operator)
        .await
        .map_err(|e| Problem::unavailable("an operator's order", &e))?;
    tracing::info!(%sale, operator, order = said, ?outcome, "an operator's order");
    match outcome {
        CommandOutcome::Done => Ok(Json(room.door_state())),
        CommandOutcome::Refused(Refusal::Closed) => Err(Problem::new(Kind::Closed)
            .detail("a closed sale is not opened again; only a notice can still be put up")),
        CommandOutcome::Refused(Refusal::NoticeTooLong) => Err(Problem::new(Kind::InvalidField)
            .with("field", &"text")
            .detail(format!("a notice has at most {NOTICE_CHARS_MAX} characters"))),
    }
}

fn parse_command(body: &[u8]) -> Result<OperatorCommand, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let problem = Problem::new(if error.inner().is_data() {
            Kind::InvalidField
        } else {
            Kind::MalformedRequest
        });
        problem
            .with("field", &field)
            .detail(error.into_inner().to_string())
    })
}

fn no_such_sale() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such sale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn an_order_is_read_exactly() {
        for (text, command) in [
            (r#"{"order":"pause"}"#, OperatorCommand::Pause),
            (
                r#"{"order":"rate","per_minute":0}"#,
                OperatorCommand::Rate { per_minute: 0 },
            ),
            (
                r#"{"order":"capacity","visitors":7}"#,
                OperatorCommand::Capacity { visitors: 7 },
            ),
            (
                r#"{"order":"notice","text":null}"#,
                OperatorCommand::Notice { text: None },
            ),
        ] {
            assert_eq!(parse_command(text.as_bytes()).unwrap(), command);
        }
        for (text, kind) in [
            ("", Kind::MalformedRequest),
            ("{", Kind::MalformedRequest),
            (r#"{"order":"open"}"#, Kind::InvalidField),
            (r#"{"order":"rate"}"#, Kind::InvalidField),
            (r#"{"order":"rate","per_minute":-1}"#, Kind::InvalidField),
            (r#"{"order":"rate","per_minute":1.5}"#, Kind::InvalidField),
            (r#"{"order":"rate","per_minute":4294967296}"#, Kind::InvalidField),
            (r#"{"order":"capacity","visitors":"many"}"#, Kind::InvalidField),
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
