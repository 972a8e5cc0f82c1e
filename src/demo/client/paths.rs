//! Every path and header of the public HTTP contract that a client uses.

/// Lists the sales.
pub const SALES: &str = "/v1/sales";
/// Signs a customer in with a hand-off token of the shop.
pub const SIGN_IN_HANDOFF: &str = "/v1/sign-in/handoff";
/// Lists the caller's holds.
pub const HOLDS: &str = "/v1/holds";
/// Places an order; also lists the caller's orders.
pub const ORDERS: &str = "/v1/orders";

/// Carries the session as a bearer token.
pub const AUTHORIZATION: &str = "authorization";
/// Carries the queue token.
pub const QUEUE_TOKEN: &str = "queue-token";
/// Carries the admission pass.
pub const ADMISSION_PASS: &str = "admission-pass";
/// Carries the key under which an order or a hold is made at most once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A path below a sale: `/v1/sales/{sale}/{rest}`.
pub fn of_sale(sale: &str, rest: &str) -> String {
    format!("{SALES}/{sale}/{rest}")
}

/// The facts of a sale.
pub fn sale(sale: &str) -> String {
    format!("{SALES}/{sale}")
}

/// `POST` joins the queue, `DELETE` leaves it.
pub fn queue(sale: &str) -> String {
    of_sale(sale, "queue")
}

/// The visitor's own position.
pub fn position(sale: &str) -> String {
    of_sale(sale, "queue/position")
}

/// The public queue status, the same for all visitors.
pub fn status(sale: &str) -> String {
    of_sale(sale, "status")
}

/// The queue status as server-sent events.
pub fn status_events(sale: &str) -> String {
    of_sale(sale, "status/events")
}

/// `POST` enters, `PUT` renews the pass, `DELETE` ends the visit.
pub fn admission(sale: &str) -> String {
    of_sale(sale, "admission")
}

/// A path below a performance.
pub fn of_performance(sale: &str, performance: &str, rest: &str) -> String {
    format!("{SALES}/{sale}/performances/{performance}/{rest}")
}

/// The seating plan.
pub fn plan(sale: &str, performance: &str) -> String {
    of_performance(sale, performance, "plan")
}

/// The state of every seat.
pub fn seats(sale: &str, performance: &str) -> String {
    of_performance(sale, performance, "seats")
}

/// Makes a hold.
pub fn holds(sale: &str, performance: &str) -> String {
    of_performance(sale, performance, "holds")
}

/// One hold; `DELETE` releases it.
pub fn hold(id: &str) -> String {
    format!("/v1/holds/{id}")
}

/// One order.
pub fn order(id: &str) -> String {
    format!("{ORDERS}/{id}")
}

/// The tickets of a paid order.
pub fn order_tickets(id: &str) -> String {
    format!("{ORDERS}/{id}/tickets")
}

/// The steps that an order took.
pub fn order_history(id: &str) -> String {
    format!("{ORDERS}/{id}/history")
}
