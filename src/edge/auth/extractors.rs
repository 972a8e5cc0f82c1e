//! Extractors as proofs of who asks: [`SignedIn`], [`QueueHolder`] and [`Admitted`] are made only here, from
//! verified signatures, so that a handler that needs a proof names it in its own signature.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use crate::{
    edge::{
        auth::credentials::{
            no_such_sale, presented_queue_token, queue_entry_subject, session, token_from_header_or_cookie,
            token_problem, valid_session,
        },
        errors::problem::{Problem, ProblemType},
        state::{AppState, HasAppState, SaleInfo, SignIn, WaitingRoomState},
    },
    kernel::{SaleId, Subject},
    platform::signing::TokenError,
    shop::Session,
    waiting_room::{Pass, QueueToken, WaitingRoom},
};

/// The sale in the request's path.
pub(crate) struct SalePath(pub(crate) Arc<SaleInfo>);

/// A customer of the shop, by a valid session.
pub struct SignedIn(pub Session);

/// The sale in the request's path, and its waiting room.
pub struct SaleRoom {
    /// The sale.
    pub sale: Arc<SaleInfo>,
    /// Its waiting room.
    pub room: Arc<WaitingRoom>,
}

/// The holder of a queue entry of this sale: by its token, or where the sale has sign-in by the session, so
/// that a customer stands at the same place at every device. Enough to look; a call that changes something
/// takes [`VerifiedQueueHolder`].
pub struct QueueHolder {
    /// The sale.
    pub sale: Arc<SaleInfo>,
    /// Its waiting room.
    pub room: Arc<WaitingRoom>,
    /// The verified token.
    pub token: QueueToken,
}

/// The holder of a queue token whose session shows, where the sale has sign-in, that the token is theirs.
pub struct VerifiedQueueHolder(pub QueueHolder);

/// An admitted visitor: a live pass, and the session that it belongs to where the sale has sign-in.
pub struct Admitted {
    /// The sale.
    pub sale: Arc<SaleInfo>,
    /// The live pass.
    pub pass: Pass,
    /// Whom holds and orders belong to.
    pub subject: Subject,
}

/// A visitor who was admitted, though the pass may have expired since: enough to pay for held seats.
pub struct AdmittedOrExpired {
    /// The sale.
    pub sale: Arc<SaleInfo>,
    /// `None` when it has expired.
    pub pass: Option<Pass>,
    /// Whom holds and orders belong to.
    pub subject: Subject,
}

/// The admissions that a request shows, for calls that name no sale. Each is of one sale; one that is not
/// valid does not hide the others.
pub struct Admissions(Vec<(SaleId, Result<AdmittedOrExpired, Problem>)>);

/// The subjects whose orders and holds are the caller's: that of the session, and those of the queue tokens
/// in sales without sign-in.
pub struct Owners(pub Vec<Subject>);

impl<S: HasAppState> FromRequestParts<S> for SalePath {
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
            .map(SalePath)
            .ok_or_else(no_such_sale)
    }
}

impl<S: HasAppState> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        session(parts, state.app())?
            .map(SignedIn)
            .ok_or_else(|| Problem::new(ProblemType::SignInRequired))
    }
}

impl FromRequestParts<WaitingRoomState> for SaleRoom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WaitingRoomState) -> Result<Self, Problem> {
        let SalePath(sale) = SalePath::from_request_parts(parts, state).await?;
        let room = state.room(&sale.id).ok_or_else(no_such_sale)?;
        Ok(Self { sale, room })
    }
}

impl FromRequestParts<WaitingRoomState> for QueueHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WaitingRoomState) -> Result<Self, Problem> {
        let sale_room = SaleRoom::from_request_parts(parts, state).await?;
        Self::from_parts(parts, state, sale_room)
    }
}

impl QueueHolder {
    /// From a request whose sale is known.
    pub(crate) fn from_parts(
        parts: &Parts,
        state: &WaitingRoomState,
        sale_room: SaleRoom,
    ) -> Result<Self, Problem> {
        let SaleRoom { sale, room } = sale_room;
        let presented = token_from_header_or_cookie(parts, &state.app, "queue-token", &sale.cookies.queue)?;
        let token = match presented {
            Some(raw) => room
                .verify_token(raw)
                .map_err(|e| token_problem(ProblemType::QueueTokenRequired, e))?,
            None => entry_of_session(parts, state, &sale, &room)?
                .ok_or_else(|| Problem::new(ProblemType::QueueTokenRequired))?,
        };
        Ok(Self { sale, room, token })
    }
}

fn entry_of_session(
    parts: &Parts,
    state: &WaitingRoomState,
    sale: &SaleInfo,
    room: &WaitingRoom,
) -> Result<Option<QueueToken>, Problem> {
    if sale.sign_in == SignIn::None {
        return Ok(None);
    }
    let session = valid_session(parts, &state.app)?;
    Ok(session.and_then(|session| room.token_of(&session.subject)))
}

impl FromRequestParts<WaitingRoomState> for VerifiedQueueHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WaitingRoomState) -> Result<Self, Problem> {
        let holder = QueueHolder::from_request_parts(parts, state).await?;
        if holder.sale.sign_in == SignIn::Customer {
            let session =
                session(parts, &state.app)?.ok_or_else(|| Problem::new(ProblemType::SignInRequired))?;
            if !holder.room.token_belongs_to(&holder.token, &session.subject) {
                return Err(Problem::new(ProblemType::NotOwner)
                    .detail("this queue token belongs to another customer"));
            }
        }
        Ok(Self(holder))
    }
}

impl<S: HasAppState> FromRequestParts<S> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let SalePath(sale) = SalePath::from_request_parts(parts, state).await?;
        let app = state.app();
        let raw = token_from_header_or_cookie(parts, app, "admission-pass", &sale.cookies.pass)?
            .ok_or_else(|| Problem::new(ProblemType::PassRequired))?;
        let pass = sale
            .tokens
            .verify_pass(raw)
            .map_err(|e| token_problem(ProblemType::PassRequired, e))?;
        let subject = pass_holder(parts, app, &sale, &pass)?;
        Ok(Self { sale, pass, subject })
    }
}

impl<S: HasAppState> FromRequestParts<S> for Admissions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = state.app();
        let mut admissions = Vec::new();
        for sale in app.sales.values() {
            // A cookie from another site is refused whatever else the request shows.
            let raw = token_from_header_or_cookie(parts, app, "admission-pass", &sale.cookies.pass)?;
            if let Some(raw) = raw {
                let admission = AdmittedOrExpired::from_token(parts, app, sale, raw);
                admissions.push((sale.id.clone(), admission));
            }
        }
        Ok(Self(admissions))
    }
}

impl Admissions {
    /// The subjects of all valid admissions, each once.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = Vec::new();
        for admission in self.0.iter().filter_map(|(_, admission)| admission.as_ref().ok()) {
            if !subjects.contains(&admission.subject) {
                subjects.push(admission.subject.clone());
            }
        }
        subjects
    }

    /// The valid admission, where exactly one is.
    ///
    /// # Errors
    /// None is valid. The problem says what the request lacks.
    pub fn only(self) -> Result<Result<AdmittedOrExpired, Self>, Problem> {
        let valid = self.0.iter().filter(|(_, admission)| admission.is_ok()).count();
        if valid > 1 {
            return Ok(Err(self));
        }
        let mut problem = Problem::new(ProblemType::PassRequired);
        for (_, admission) in self.0 {
            match admission {
                Ok(admission) => return Ok(Ok(admission)),
                Err(other) if problem.kind() == ProblemType::PassRequired => problem = other,
                Err(_) => {}
            }
        }
        Err(problem)
    }

    /// The admission to `sale`.
    ///
    /// # Errors
    /// The request has no valid one.
    pub fn to(self, sale: &SaleId) -> Result<AdmittedOrExpired, Problem> {
        let mut admissions = self.0.into_iter();
        let admission = admissions.find_map(|(id, admission)| (id == *sale).then_some(admission));
        admission.unwrap_or_else(|| Err(pass_of_other_sale(sale)))
    }
}

impl AdmittedOrExpired {
    fn from_token(parts: &Parts, app: &AppState, sale: &Arc<SaleInfo>, raw: &str) -> Result<Self, Problem> {
        let (pass, subject) = match sale.tokens.verify_pass(raw) {
            Ok(pass) => {
                let subject = pass_holder(parts, app, sale, &pass)?;
                (Some(pass), subject)
            }
            Err(TokenError::Expired) => {
                let subject = match sale.sign_in {
                    SignIn::Customer => session(parts, app)?.map(|session| session.subject),
                    SignIn::None => token_holder(parts, app, sale)?,
                };
                (
                    None,
                    subject.ok_or_else(|| Problem::new(ProblemType::SignInRequired))?,
                )
            }
            Err(e) => return Err(token_problem(ProblemType::PassRequired, e)),
        };
        Ok(Self {
            sale: Arc::clone(sale),
            pass,
            subject,
        })
    }
}

/// 401 for a call about something of `sale` that shows passes of other sales only.
pub(crate) fn pass_of_other_sale(sale: &SaleId) -> Problem {
    Problem::new(ProblemType::PassRequired).detail(format!("an admission pass of sale {sale} is required"))
}

impl<S: HasAppState> FromRequestParts<S> for Owners {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = state.app();
        // An expired session must not hide what belongs to a queue token.
        let mut subjects = Vec::new();
        if let Some(session) = valid_session(parts, app)?
            && !app.shop.is_signed_out(&session).await
        {
            subjects.push(session.subject);
        }
        for sale in app.sales.values().filter(|sale| sale.sign_in == SignIn::None) {
            subjects.extend(token_holder(parts, app, sale)?);
        }
        if subjects.is_empty() {
            Err(Problem::new(ProblemType::SignInRequired))
        } else {
            Ok(Self(subjects))
        }
    }
}

fn pass_holder(parts: &Parts, app: &AppState, sale: &SaleInfo, pass: &Pass) -> Result<Subject, Problem> {
    match sale.sign_in {
        SignIn::None => Ok(queue_entry_subject(&sale.id, pass.subject_hash)),
        SignIn::Customer => {
            let session = session(parts, app)?.ok_or_else(|| Problem::new(ProblemType::SignInRequired))?;
            if !sale.tokens.pass_belongs_to(pass, &session.subject) {
                return Err(
                    Problem::new(ProblemType::NotOwner).detail("this pass belongs to another customer")
                );
            }
            Ok(session.subject)
        }
    }
}

fn token_holder(parts: &Parts, app: &AppState, sale: &SaleInfo) -> Result<Option<Subject>, Problem> {
    let presented = presented_queue_token(parts, app, sale)?;
    Ok(presented.map(|(token, _)| queue_entry_subject(&sale.id, token.subject_hash)))
}
