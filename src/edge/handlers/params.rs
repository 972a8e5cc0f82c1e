//! Query and path parameters whose rejections are problems, as every other error response is.

use axum::extract::{FromRequestParts, Path, Query as AxumQuery};
use http::request::Parts;
use serde::{Deserialize, de::DeserializeOwned};

use crate::edge::errors::problem::{Problem, ProblemType};

/// The query parameters, or 400 when one is given twice or cannot be read.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Some(name) = doubled_key(parts.uri.query().unwrap_or_default()) {
            return Err(invalid_parameter(name, "given more than once"));
        }
        let query = AxumQuery::<T>::from_request_parts(parts, state).await;
        query.map(|AxumQuery(query)| Self(query)).map_err(|e| {
            // axum's text is "Failed to deserialize query string: NAME: REASON".
            let text = e.body_text();
            let mut words = text.splitn(3, ": ").skip(1);
            match (words.next(), words.next()) {
                (Some(name), Some(reason)) => invalid_parameter(name, reason),
                _ => Problem::new(ProblemType::MalformedRequest).detail("the query cannot be read"),
            }
        })
    }
}

/// Which of the caller's holds or orders to list.
#[derive(Deserialize)]
pub struct SaleFilter {
    /// Only those of this sale.
    pub sale: Option<String>,
}

fn invalid_parameter(name: &str, reason: &str) -> Problem {
    Problem::new(ProblemType::MalformedRequest)
        .with("field", &name)
        .detail(format!("query parameter: {reason}"))
}

/// A key that the query names twice: which of its values counts would be a guess.
fn doubled_key(query: &str) -> Option<&str> {
    let keys: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .filter(|key| !key.is_empty())
        .collect();
    let is_doubled = |(index, key): (usize, &&str)| keys[..index].contains(key);
    let at = keys.iter().enumerate().position(is_doubled)?;
    Some(keys[at])
}

/// The path parameters in their order, or 404 when they have another form: nothing can be there.
pub struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = Path::<T>::from_request_parts(parts, state).await;
        params
            .map(|Path(params)| Self(params))
            .map_err(|_| Problem::new(ProblemType::NotFound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_key_is_found() {
        assert_eq!(doubled_key("sale=a&sale=b"), Some("sale"));
        assert_eq!(doubled_key("a&b&a=1"), Some("a"));
        assert_eq!(doubled_key("a=1&b=1&&&"), None);
        assert_eq!(doubled_key(""), None);
    }
}
