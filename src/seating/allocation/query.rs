//! What is requested of the allocation.

/// A request for the best free seats. Zone and section are indexes in the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BestAvailableQuery {
    /// Number of seats.
    pub(crate) quantity: usize,
    /// How many of them must be wheelchair spaces. When zero, such spaces and their companion seats are not
    /// offered.
    pub(crate) accessible: usize,
    /// Price zone; any one when `None`.
    pub(crate) zone: Option<u32>,
    /// Section; any one when `None`.
    pub(crate) section: Option<u32>,
    /// Differs between customers, so that they are offered different seats of the same quality.
    pub(crate) spread_seed: u64,
    /// How often this request lost its seats to another customer. Each time the choice becomes wider.
    pub(crate) lost_races: u32,
}
