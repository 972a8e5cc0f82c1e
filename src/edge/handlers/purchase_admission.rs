//! Which of a browser's admissions a purchase needs: it names a hold and no sale.

use crate::{
    edge::{
        auth::extractors::{Admissions, AdmittedOrExpired, Owners},
        errors::problem::{Problem, ProblemType},
        state::BoxOfficeState,
    },
    kernel::{HoldId, SaleId, Subject, VisitId},
};

/// The admission that a purchase needs: one of the sale whose seats the hold has. The request names no sale,
/// and a browser sends the passes of every sale that it was admitted to. At another device, or after the
/// visit, it has none: then the hold itself shows that its owner was admitted.
pub(super) async fn admission_for(
    state: &BoxOfficeState,
    admissions: Admissions,
    owners: Result<Owners, Problem>,
    hold: HoldId,
    idempotency_key: &str,
) -> Result<AdmittedOrExpired, Problem> {
    let admissions = match admissions.only() {
        Ok(Ok(admission)) => return Ok(admission),
        Ok(Err(several)) => several,
        Err(problem) => return owner_of_hold(state, owners, hold).await?.ok_or(problem),
    };
    for subject in admissions.subjects() {
        if let Some(sale) = sale_of_hold(state, hold, &subject).await? {
            return admissions.to(&sale);
        }
        // A purchase that is repeated: its hold has become an order.
        let sale = state.checkout.sale_of_purchase(&subject, idempotency_key).await;
        if let Some(sale) = sale.map_err(|e| state.app.checkout_problem("order", &e))? {
            return admissions.to(&sale);
        }
    }
    Err(Problem::new(ProblemType::HoldGone).with("alternatives", &[(); 0]))
}

/// The owner of a live hold, as a visitor without a pass.
async fn owner_of_hold(
    state: &BoxOfficeState,
    owners: Result<Owners, Problem>,
    hold: HoldId,
) -> Result<Option<AdmittedOrExpired>, Problem> {
    let subjects = match owners {
        Ok(Owners(subjects)) => subjects,
        Err(problem) if problem.kind() == ProblemType::SignInRequired => return Ok(None),
        Err(problem) => return Err(problem),
    };
    for subject in subjects {
        let sale = sale_of_hold(state, hold, &subject).await?;
        if let Some(sale) = sale.and_then(|sale| state.app.sale(&sale)) {
            return Ok(Some(AdmittedOrExpired {
                sale,
                pass: None,
                subject,
            }));
        }
    }
    Ok(None)
}

/// The sale of a live hold; `None` when this subject has none of this id.
pub(super) async fn sale_of_hold(
    state: &BoxOfficeState,
    hold: HoldId,
    subject: &Subject,
) -> Result<Option<SaleId>, Problem> {
    let found = state.seating.find_hold(hold, subject).await;
    let found = found.map_err(|e| state.app.seating_problem("a hold", &e))?;
    Ok(found.map(|(performance, _)| performance.config().sale.clone()))
}

/// The visit that the seats are held in. A visitor whose pass has expired may still pay for seats on hold;
/// without any, only a valid pass opens the call.
pub(super) async fn visit_of(
    state: &BoxOfficeState,
    visitor: &AdmittedOrExpired,
    hold: HoldId,
) -> Result<VisitId, Problem> {
    if let Some(pass) = &visitor.pass {
        return Ok(pass.visit);
    }
    let found = state.seating.find_hold(hold, &visitor.subject).await;
    match found.map_err(|e| state.app.seating_problem("a hold", &e))? {
        Some((_, hold)) => Ok(hold.visit),
        None => Err(Problem::new(ProblemType::PassRequired).detail("the pass has expired")),
    }
}
