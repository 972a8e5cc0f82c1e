//! Who makes a call of the admin API, by the token.

use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        overload::client_ip::Peer,
        state::BoxOfficeState,
    },
    ops::admin::operators::{OperatorApi, not_served_here},
};

/// An operator, by the token.
pub(super) struct OperatorCall {
    pub(super) operator: String,
    pub(super) api: OperatorApi,
}

impl OperatorCall {
    /// The box office of this process.
    pub(super) fn box_office(&self) -> Result<BoxOfficeState, Problem> {
        let box_office = self.api.0.get().and_then(|open| open.box_office.clone());
        box_office.ok_or_else(|| not_served_here("box office"))
    }

    pub(super) fn read(parts: &Parts, api: &OperatorApi, may_read_feed: bool) -> Result<Self, Problem> {
        let open = api.0.get().ok_or_else(|| {
            Problem::new(ProblemType::TemporarilyUnavailable)
                .detail("the sales are not open yet")
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
        Ok(Self {
            operator: open.operator(*peer, token, may_read_feed)?,
            api: api.clone(),
        })
    }
}

impl FromRequestParts<OperatorApi> for OperatorCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &OperatorApi) -> Result<Self, Problem> {
        Self::read(parts, api, false)
    }
}

/// An operator, or the shop that reads the feed.
pub(super) struct FeedReader(pub(super) OperatorCall);

impl FromRequestParts<OperatorApi> for FeedReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &OperatorApi) -> Result<Self, Problem> {
        OperatorCall::read(parts, api, true).map(Self)
    }
}
