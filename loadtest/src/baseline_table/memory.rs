//! What a waiting visitor takes in the store's memory.

use std::sync::Arc;

use stagedoor::demo::client::paths;
use tokio::task::JoinSet;

use super::{
    fixture::{DECLARED, Fixture},
    paired::Server,
    table::{Row, Table},
};
use crate::http1::HttpRequest;

/// Adds what a waiting visitor takes in the store's memory. Anonymous visitors join over HTTP. Customers,
/// whom the store must also find by subject, are in the journal that a service starts with.
pub(super) async fn add_memory(fixture: &Fixture, fans: u32, table: &mut Table) -> anyhow::Result<()> {
    let backend = fixture.backend.name();
    let mut push = |who: &str, count: u32, bytes: u64, goal: f64| {
        let figure = format!("memory per waiting fan, {who}");
        let row = Row::lower_is_better(figure, backend, bytes_each(bytes, count), "B", Some(goal));
        table.push(Row {
            baseline: format!("{count} fans"),
            ..row
        });
    };
    let before = fixture.used_bytes().await?;
    let joined = join_many(&fixture.service, &paths::queue(DECLARED), fans).await;
    let added = fixture.used_bytes().await?.saturating_sub(before);
    if fixture.servers.is_none() {
        push("anonymous", joined, added, 40.0);
        return Ok(());
    }
    push("anonymous", joined, added, 20.0);
    // The sale's index is sized for a million entries, however many visitors come.
    for (times, goal) in [(1, 20.0), (4, 24.0)] {
        let customers = fans.saturating_mul(times);
        let (filled, empty) = fixture.with_waiting(DECLARED, customers).await?;
        let who = format!("{customers} customers where {fans} were declared");
        push(
            &who,
            customers,
            filled.used_bytes().await?.saturating_sub(empty),
            goal,
        );
    }
    Ok(())
}

/// Bytes for each of `count`.
pub(crate) fn bytes_each(bytes: u64, count: u32) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(count.max(1))
}

/// Sends so many joins to `path`; how many were acknowledged.
pub(crate) async fn join_many(server: &Server, path: &str, fans: u32) -> u32 {
    const WORKERS: u32 = 64;
    let request: Arc<[u8]> = server.client.encode(&HttpRequest::post(path)).into();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (client, request) = (Arc::clone(&server.client), Arc::clone(&request));
        let share = fans / WORKERS + u32::from(worker < fans % WORKERS);
        workers.spawn(async move {
            let mut joined = 0;
            for _ in 0..share {
                joined += u32::from(client.send_bytes(&request).await.is_ok_and(|reply| reply.is_ok()));
            }
            joined
        });
    }
    workers.join_all().await.into_iter().sum()
}
