//! The proofs that a visitor holds.

use super::{call::Request, paths};

/// The proofs that a visitor holds, sent with every call as a browser does with its cookies.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The value of `Authorization`; empty without a sign-in.
    pub authorization: Box<str>,
    /// The queue token; empty before joining.
    pub queue_token: Box<str>,
    /// The admission pass; empty before admission.
    pub admission_pass: Box<str>,
}

impl Credentials {
    /// Adds the proofs to a request.
    #[must_use]
    pub fn sign(&self, mut request: Request) -> Request {
        for (name, value) in [
            (paths::AUTHORIZATION, &self.authorization),
            (paths::QUEUE_TOKEN, &self.queue_token),
            (paths::ADMISSION_PASS, &self.admission_pass),
        ] {
            if !value.is_empty() {
                request.headers.push((name, value.to_string()));
            }
        }
        request
    }
}
