//! Query and path parameters whose rejections are problems, as every other error response is.

use axum::extract::{FromRequestParts, Path, Query as AxumQuery};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::edge::errors::problem::{Problem, ProblemType};

/// The query parameters, or 400 when they cannot be read.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = AxumQuery::<T>::from_request_parts(parts, state).await;
        query
            .map(|AxumQuery(query)| Self(query))
            .map_err(|e| Problem::new(ProblemType::MalformedRequest).detail(e.body_text()))
    }
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
