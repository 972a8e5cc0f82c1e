//! Status: the public state of a queue, the same for every visitor, encoded once a second and served as
//! bytes.
//!
//! [`reporter`] composes it, [`snapshot`] encodes and publishes it; [`people_ahead`] and [`presence`] hold
//! the two parts that are more than a number.

pub(crate) mod people_ahead;
pub(crate) mod presence;
pub(crate) mod reporter;
pub(crate) mod snapshot;
