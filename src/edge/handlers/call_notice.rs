//! Requests of visitors to be told when they are called: the shop gets an event and sends them a message.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    edge::{
        auth::extractors::{QueueHolder, SignedIn, VerifiedQueueHolder},
        errors::problem::{Problem, ProblemType},
        handlers::{HandlerResult, private_json, task_failed},
        state::{AppState, SaleInfo, SignIn, WaitingRoomState},
    },
    waiting_room::CallNoticeOutcome,
};

/// Whether the visitor is told when they are called.
#[derive(Serialize, ToSchema)]
pub struct CallNoticeResponse {
    /// There is a request, and the visitor was not told yet.
    pub(crate) is_asked: bool,
}

fn check_offered(app: &AppState, sale: &SaleInfo) -> Result<(), Problem> {
    if app.config.call_notices && sale.sign_in == SignIn::Customer {
        Ok(())
    } else {
        Err(Problem::new(ProblemType::NotFound).detail("the shop does not tell visitors of their call"))
    }
}

/// `GET /v1/sales/{sale}/queue/call-notice`
pub async fn get(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    VerifiedQueueHolder(QueueHolder { sale, room, token }): VerifiedQueueHolder,
) -> HandlerResult {
    check_offered(&app, &sale)?;
    let asked = room.is_to_be_told(&token).await;
    let is_asked = asked.map_err(|e| app.waiting_room_problem("call notice", &e))?;
    Ok(private_json(StatusCode::OK, &CallNoticeResponse { is_asked }))
}

/// `PUT /v1/sales/{sale}/queue/call-notice`: asks to be told, as the customer who is signed in.
pub async fn ask(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SignedIn(session): SignedIn,
    VerifiedQueueHolder(QueueHolder { sale, room, token }): VerifiedQueueHolder,
) -> HandlerResult {
    check_offered(&app, &sale)?;
    let customer = session
        .subject
        .customer_key()
        .filter(|_| room.token_belongs_to(&token, &session.subject))
        .map(str::to_owned)
        .ok_or_else(|| {
            Problem::new(ProblemType::NotOwner).detail("this queue entry was not made by the customer")
        })?;
    let asked = app
        .lifecycle
        .spawn_uncancellable(async move { room.ask_to_be_told(&token, &customer).await });
    let asked = asked.await.map_err(task_failed)?;
    match asked.map_err(|e| app.waiting_room_problem("call notice", &e))? {
        CallNoticeOutcome::Kept => Ok(no_content()),
        CallNoticeOutcome::NotWaiting => Err(Problem::new(ProblemType::NotWaiting)),
    }
}

/// `DELETE /v1/sales/{sale}/queue/call-notice`: no longer wants to be told.
pub async fn withdraw(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    VerifiedQueueHolder(QueueHolder { sale, room, token }): VerifiedQueueHolder,
) -> HandlerResult {
    check_offered(&app, &sale)?;
    let withdrawn = app
        .lifecycle
        .spawn_uncancellable(async move { room.withdraw_call_notice(&token).await });
    let withdrawn = withdrawn.await.map_err(task_failed)?;
    withdrawn.map_err(|e| app.waiting_room_problem("call notice", &e))?;
    Ok(no_content())
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
