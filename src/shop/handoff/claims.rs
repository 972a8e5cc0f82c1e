//! What a hand-off says, once its signature is verified.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::kernel::{Subject, Timestamp};

const TTL_MAX_MS: i64 = 300_000;
const LEEWAY_MS: i64 = 5_000;
const JTI_LEN_MAX: usize = 128;
const NAME_CHARS_MAX: usize = 150;
/// Seconds since 1970 that no token of this century exceeds; a product with 1000 is still an `i64`.
const SECONDS_MAX: f64 = 1e11;

/// Why a hand-off is refused. Holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {why}")]
pub struct HandoffError {
    /// The part of the token: a claim, a parameter of its header, or `token`.
    pub part: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl HandoffError {
    pub(crate) const fn new(part: &'static str, why: &'static str) -> Self {
        Self { part, why }
    }

    /// The hand-off was used before.
    pub(crate) const USED: Self = Self::new("jti", "this token was used before");
    /// The code is forged, expired or was used before.
    pub(crate) const UNKNOWN_CODE: Self = Self::new(
        "code",
        "was used before, or is older than a minute, or is none of this service",
    );
    /// The state was used before.
    pub(crate) const STATE: Self = Self::new("state", "this sign-in at the shop was completed before");
    /// Hand-offs are switched off.
    pub(crate) const NOT_CONFIGURED: Self = Self::new(
        "token",
        "the service takes no hand-offs: shop.handoff is not configured",
    );
}

/// A verified hand-off. It is accepted if its `jti` was not used before.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Handoff {
    pub customer: Subject,
    /// The customer's name; may be empty.
    pub name: String,
    pub jti: String,
    /// From then on the token is refused as expired, so its use need not be remembered.
    pub forget_after: Timestamp,
}

/// Checks the claims against the configured parties and our own clock.
pub(super) fn read_claims(
    claims: &Map<String, Value>,
    issuer: &str,
    audience: &str,
    now: Timestamp,
) -> Result<Handoff, HandoffError> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(HandoffError::new("iss", "must be shop.handoff.issuer"));
    }
    if !names_audience(claims.get("aud"), audience) {
        return Err(HandoffError::new(
            "aud",
            "must be or contain shop.handoff.audience",
        ));
    }
    let expires_at = check_times(claims, now)?;
    Ok(Handoff {
        customer: customer(claims)?,
        name: name(claims)?,
        jti: jti(claims)?,
        forget_after: expires_at.plus(Duration::from_millis(LEEWAY_MS.unsigned_abs() + 1)),
    })
}

fn names_audience(claim: Option<&Value>, audience: &str) -> bool {
    match claim {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// Checks `iat`, `nbf` and `exp`; returns when the token expires.
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, HandoffError> {
    let now_ms = now.as_millis();
    let required = |claim| {
        numeric_date(claims, claim)?.ok_or(HandoffError::new(
            claim,
            "is missing: seconds since 1970 are required",
        ))
    };
    let (issued_ms, expires_ms) = (required("iat")?, required("exp")?);
    for (claim, at_ms) in [("iat", Some(issued_ms)), ("nbf", numeric_date(claims, "nbf")?)] {
        if at_ms.is_some_and(|at_ms| at_ms > now_ms + LEEWAY_MS) {
            return Err(HandoffError::new(
                claim,
                "is in the future by the service's clock, of which 5 seconds are allowed",
            ));
        }
    }
    if expires_ms <= now_ms - LEEWAY_MS {
        return Err(HandoffError::new("exp", "has passed by the service's clock"));
    }
    if !(1..=TTL_MAX_MS).contains(&(expires_ms - issued_ms)) {
        return Err(HandoffError::new(
            "exp",
            "must be after iat, by at most 300 seconds",
        ));
    }
    Ok(Timestamp::from_millis(expires_ms))
}

/// A NumericDate (RFC 7519, section 2) in milliseconds; it may have a fraction.
fn numeric_date(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<i64>, HandoffError> {
    let Some(value) = claims.get(claim).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| seconds.abs() < SECONDS_MAX);
    let seconds = seconds.ok_or(HandoffError::new(claim, "must be a number of seconds since 1970"))?;
    #[expect(clippy::cast_possible_truncation, reason = "less than 1e14")]
    let millis = (seconds * 1_000.0).round() as i64;
    Ok(Some(millis))
}

/// The shop's key of the customer: a text, or a whole number as many databases have.
fn customer(claims: &Map<String, Value>) -> Result<Subject, HandoffError> {
    let key = match claims.get("sub") {
        Some(Value::String(key)) => key.clone(),
        Some(Value::Number(key)) if !key.is_f64() => key.to_string(),
        _ => return Err(HandoffError::new("sub", "must be a text or a whole number")),
    };
    Subject::customer(&key).map_err(|_| HandoffError::new("sub", "is empty or too long"))
}

fn name(claims: &Map<String, Value>) -> Result<String, HandoffError> {
    match claims.get("name") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(name)) => Ok(name.chars().take(NAME_CHARS_MAX).collect()),
        Some(_) => Err(HandoffError::new("name", "must be a text")),
    }
}

fn jti(claims: &Map<String, Value>) -> Result<String, HandoffError> {
    let jti = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    if (1..=JTI_LEN_MAX).contains(&jti.len()) {
        Ok(jti.to_owned())
    } else {
        Err(HandoffError::new("jti", "must be a text of 1 to 128 bytes"))
    }
}
