//! Who a caller is: extractors that prove it, and the cookies that carry sessions, queue tokens and passes.

pub mod cookies;
pub(crate) mod credentials;
pub(crate) mod extractors;
