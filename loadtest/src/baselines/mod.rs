//! The baseline server: what figures are compared with, in a process of its own.
//!
//! | module | serves |
//! |---|---|
//! | [`bare`] | routes of a given size without any logic: the cost of HTTP itself |
//! | [`minimal_hold`] | an all-or-none hold without limits, deadlines or recovery |
//! | [`usual_queue`] | the usual waiting queue on a Redis sorted set |
//! | [`usual_seat_locks`] | the usual seat locks: one `SET NX EX` per seat |

pub mod bare;
pub mod minimal_hold;
pub mod usual_queue;
pub mod usual_seat_locks;

use anyhow::Context;

/// Serves all baselines on this port. Without a Redis there are no usual queue and no usual seat locks, and
/// the minimal hold is a lock around a set.
///
/// # Errors
/// The port is taken, or Redis does not answer.
pub async fn serve(port: u16, redis_url: Option<&str>) -> anyhow::Result<()> {
    let mut app = bare::routes();
    match redis_url {
        Some(url) => {
            // One multiplexed connection: concurrent commands share it as one implicit pipeline, which is the
            // fastest way to use one Redis.
            let connection = redis::Client::open(url)?
                .get_multiplexed_async_connection()
                .await
                .context("the baseline's Redis")?;
            app = app
                .merge(minimal_hold::redis_routes(connection.clone()))
                .merge(usual_queue::routes(connection.clone()))
                .merge(usual_seat_locks::routes(connection));
        }
        None => app = app.merge(minimal_hold::in_memory_routes()),
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app)
        .await
        .context("the baseline server ended")
}
