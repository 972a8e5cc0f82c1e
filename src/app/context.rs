//! Dependencies that the parts of a process are built with.

use std::sync::Arc;

use crate::{
    app::lifecycles::Lifecycles,
    kernel::{Clock, Entropy},
    platform::keys::Keys,
    seating::Plan,
};

/// Dependencies that every part needs.
pub(super) struct BuildContext {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) keys: Keys,
    pub(super) lifecycles: Lifecycles,
}

/// The plans of a sale's performances, in their order.
pub(super) type Plans = Vec<Arc<Plan>>;
