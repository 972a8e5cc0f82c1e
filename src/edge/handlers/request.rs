//! What handlers read of a request besides credentials: JSON bodies, idempotency keys, the client's address.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{Extensions, HeaderMap, header, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::edge::{
    errors::problem::{Problem, ProblemType},
    overload::client_ip::{Peer, client_address},
    state::{AppState, HasAppState},
};

/// A JSON body, read within limits of size and time.
pub struct Json<T>(pub T);

/// The body of a call that takes no fields: none, or an empty object. A field that is sent is refused, since
/// the call would do more or less than its caller asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoFields {}

/// The caller's `Idempotency-Key`.
pub struct IdempotencyKey(pub Option<String>);

/// The client's address, behind the proxies that the configuration trusts.
pub struct ClientAddress(pub std::net::IpAddr);

const KEY_LENGTH_MAX: usize = 255;

impl<S: HasAppState> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        let key = value
            .to_str()
            .ok()
            .filter(|key| !key.is_empty() && key.len() <= KEY_LENGTH_MAX && values.next().is_none());
        let problem = || {
            Problem::new(ProblemType::InvalidField)
                .with("field", &"Idempotency-Key")
                .detail("once, with 1 to 255 visible ASCII characters")
        };
        Ok(Self(Some(key.ok_or_else(problem)?.to_owned())))
    }
}

impl<S: HasAppState> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        address(&parts.extensions, &parts.headers, state.app())
            .map(Self)
            .ok_or_else(|| Problem::new(ProblemType::Internal))
    }
}

impl<S: HasAppState, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_is_json(request.headers())?;
        let bytes = read_body(request.into_body(), state.app()).await?;
        parse_object(&bytes).map(Self)
    }
}

impl<S: HasAppState> FromRequest<S> for NoFields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read_body(request.into_body(), state.app()).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self {});
        }
        parse_object(&bytes)
    }
}

/// The JSON body of a call that may have none.
pub(crate) async fn optional_json<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
    app: &AppState,
) -> Result<T, Problem> {
    if body.is_end_stream() {
        return Ok(T::default());
    }
    let bytes = read_body(body, app).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    check_is_json(headers)?;
    parse_object(&bytes)
}

/// The fields of a form, each given once and none of them missing. Others are passed by: a page may add some.
pub(crate) async fn read_form<const N: usize>(
    headers: &HeaderMap,
    body: Body,
    app: &AppState,
    names: [&'static str; N],
) -> Result<[String; N], Problem> {
    let malformed = |detail: String| Problem::new(ProblemType::MalformedRequest).detail(detail);
    if !has_content_type(headers, "application/x-www-form-urlencoded") {
        return Err(malformed(
            "the body must be application/x-www-form-urlencoded".to_owned(),
        ));
    }
    let bytes = read_body(body, app).await?;
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(&bytes) {
        let Some(at) = names.iter().position(|wanted| *wanted == name) else {
            continue;
        };
        if values[at].replace(value.into_owned()).is_some() {
            return Err(malformed(format!("{}: given more than once", names[at])));
        }
    }
    if let Some(at) = values.iter().position(Option::is_none) {
        return Err(malformed(format!("{}: is missing", names[at])));
    }
    Ok(values.map(Option::unwrap_or_default))
}

/// A form on another site cannot post here: sending this type needs a CORS preflight.
fn check_is_json(headers: &HeaderMap) -> Result<(), Problem> {
    if has_content_type(headers, "application/json") {
        Ok(())
    } else {
        Err(Problem::new(ProblemType::NotJson))
    }
}

fn has_content_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| {
            let kind = v.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case(expected)
        })
}

/// A JSON object of these fields.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |e: &serde_json::Error| Problem::new(ProblemType::MalformedRequest).detail(e.to_string());
    // serde would take the fields of a list by their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::new(ProblemType::MalformedRequest).detail("a JSON object is expected"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        if inner.is_data() {
            let reason = reason(&inner);
            Problem::new(ProblemType::InvalidField)
                .with("field", &field(&path, &reason))
                .detail(reason)
        } else {
            malformed(&inner)
        }
    })?;
    json.end().map_err(|e| malformed(&e))?;
    Ok(value)
}

/// The whole body, within the limits of size and time.
pub(crate) async fn read_body(body: Body, app: &AppState) -> Result<bytes::Bytes, Problem> {
    let limit = app.config.body_bytes_max;
    let whole = tokio::time::timeout(app.config.body_timeout, Limited::new(body, limit).collect());
    match whole.await {
        Err(_) => Err(Problem::new(ProblemType::BodyTooSlow)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Problem::new(ProblemType::BodyTooLarge).detail(format!("at most {limit} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemType::MalformedRequest).detail("the body ended early")),
    }
}

/// The client's address; `None` when the listener recorded no peer.
#[must_use]
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    app: &AppState,
) -> Option<std::net::IpAddr> {
    let Peer(peer) = extensions.get::<Peer>()?;
    Some(client_address(*peer, headers, &app.config.trusted_proxies))
}

/// serde_json's message in the caller's words: without "at line 1 column 7", since the path of the field says
/// it better, and without the names of types.
fn reason(e: &serde_json::Error) -> String {
    let whole = e.to_string();
    let message = whole
        .rsplit_once(" at line ")
        .map_or(&*whole, |(message, _)| message);
    match message.split_once("struct ") {
        Some((before, _)) => format!("{before}an object"),
        None => message.to_owned(),
    }
}

/// The field that an error is about. A path ends at the object that lacks a field, or has one too many.
fn field(path: &str, reason: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| reason.strip_prefix(prefix)?.split('`').next());
    match named {
        None => path.to_owned(),
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::HoldId;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its errors matter")]
        hold: HoldId,
        #[expect(dead_code, reason = "only its errors matter")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its errors matter")]
        token: String,
    }

    fn problem(text: &str) -> (ProblemType, String, String) {
        let problem = parse_object::<Outer>(text.as_bytes()).unwrap_err();
        let body = problem.body();
        let member = |name: &str| {
            body.get(name)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        (problem.kind(), member("field"), member("detail"))
    }

    #[test]
    fn an_error_names_the_field_and_no_type_of_the_code() {
        const HOLD: &str = "\"hold\":\"0b9d2f5c-6f0e-4c63-9a53-7a2f7a1c9a10\"";
        for (text, expected) in [
            ("{}".to_owned(), "hold"),
            (format!("{{{HOLD}}}"), "inner"),
            (format!("{{{HOLD},\"inner\":{{}}}}"), "inner.token"),
            (
                format!("{{{HOLD},\"inner\":{{\"token\":\"t\",\"amount\":1}}}}"),
                "inner.amount",
            ),
            (
                format!("{{{HOLD},\"inner\":{{\"token\":\"t\"}},\"seats\":[]}}"),
                "seats",
            ),
            (format!("{{{HOLD},{HOLD}}}"), "hold"),
            (format!("{{{HOLD},\"inner\":7}}"), "inner"),
            ("{\"hold\":\"x\"}".to_owned(), "hold"),
        ] {
            let (kind, field, detail) = problem(&text);
            assert_eq!(
                (kind, field.as_str()),
                (ProblemType::InvalidField, expected),
                "{text}: {detail}"
            );
            for word in ["struct", "Inner", "Outer", "line", "urn:uuid", "UUID parsing"] {
                assert!(!detail.contains(word), "{text}: {detail}");
            }
        }
        for text in ["[]", "", "{", "\u{0}"] {
            assert_eq!(problem(text).0, ProblemType::MalformedRequest, "{text}");
        }
    }

    #[test]
    fn a_call_without_fields_names_the_one_it_got() {
        assert!(parse_object::<NoFields>(b"{}").is_ok());
        let problem = parse_object::<NoFields>(b"{\"seats\":[\"A-1\"]}").unwrap_err();
        assert_eq!(problem.kind(), ProblemType::InvalidField);
        assert_eq!(problem.body()["field"], "seats");
    }
}
