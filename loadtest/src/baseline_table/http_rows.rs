//! The figures of a service and its baseline over HTTP, backend by backend.

use std::time::Duration;

use stagedoor::demo::client::paths;

use super::{
    args::BaselineArgs,
    fixture::{EMPTY, FOURFOLD, Fixture},
    hold_bench, memory, origin_load,
    paired::{Side, compare, compare_with_workers},
    redis_pipeline,
    table::{Row, Table},
};
use crate::environment::{Backend, BackendServers, Durability};

/// The figures of this module.
const FIGURES: [&str; 7] = ["join", "status", "position", "hold", "memory", "growth", "origin"];
const BARE: &str = "a bare axum route of as many bytes";
const PREPARED: &str = "a bare axum route of as many bytes, made beforehand";
const EMPTY_QUEUE: &str = "the same with an empty queue";
/// Visitors who wait behind nginx.
const ORIGIN_FANS: u32 = 20_000;

/// Adds the figures of both backends.
pub(super) async fn add(args: &BaselineArgs, figures: &[&str], table: &mut Table) -> anyhow::Result<()> {
    if !FIGURES.iter().any(|figure| figures.contains(figure)) {
        return Ok(());
    }
    let joins = figures.contains(&"join");
    let fixture = Fixture::open(Backend::Embedded, Durability::Committed, None).await?;
    add_backend(&fixture, Some(0.85), args, figures, table).await?;
    if joins {
        let fixture = fixture.reopen(Durability::Async).await?;
        add_joins(&fixture, Some(0.9), args, table).await?;
    } else {
        drop(fixture);
    }
    let servers = match BackendServers::start().await {
        Ok(servers) => servers,
        Err(why) => {
            table
                .not_measured
                .push(format!("everything on Redis and PostgreSQL: {why:#}"));
            return Ok(());
        }
    };
    let fixture = Fixture::open(Backend::RedisPostgresql, Durability::Async, Some(servers)).await?;
    add_backend(&fixture, Some(0.8), args, figures, table).await?;
    if joins {
        let fixture = fixture.reopen(Durability::Committed).await?;
        add_joins(&fixture, None, args, table).await?;
    }
    Ok(())
}

/// All figures of one backend.
async fn add_backend(
    fixture: &Fixture,
    join_goal: Option<f64>,
    args: &BaselineArgs,
    figures: &[&str],
    table: &mut Table,
) -> anyhow::Result<()> {
    if figures.contains(&"join") {
        add_joins(fixture, join_goal, args, table).await?;
        add_pipeline(fixture, table).await?;
    }
    if figures.contains(&"position") {
        add_position(fixture, table).await?;
    }
    if figures.contains(&"status") {
        let status = Side::get(&fixture.service, &paths::status(EMPTY));
        let pairs = compare(&status, &fixture.prepared_bytes(&status).await?).await?;
        table.push(Row::of_pairs(
            "status",
            fixture.backend.name(),
            &pairs,
            Some(0.95),
            PREPARED,
        ));
    }
    if figures.contains(&"hold") {
        add_hold(fixture, table).await?;
    }
    if figures.contains(&"memory") {
        memory::add_memory(fixture, args.fans, table).await?;
    }
    if figures.contains(&"growth") {
        add_growth(fixture, args.fans.saturating_mul(4), table).await?;
    }
    if figures.contains(&"origin") {
        add_origin(fixture, table).await;
    }
    Ok(())
}

/// Joins at this fixture's durability.
async fn add_joins(
    fixture: &Fixture,
    goal: Option<f64>,
    args: &BaselineArgs,
    table: &mut Table,
) -> anyhow::Result<()> {
    let join = Side::post(&fixture.service, &paths::queue(EMPTY));
    for &connections in &args.joining {
        let figure = format!("join, {}, {connections} in flight", fixture.durability.name());
        let bare = fixture.bare(&join).await?;
        let pairs = compare_with_workers(connections, &join, &bare).await;
        table.push_pairs(figure, fixture.backend.name(), pairs, goal, BARE);
    }
    Ok(())
}

async fn add_pipeline(fixture: &Fixture, table: &mut Table) -> anyhow::Result<()> {
    let Some(servers) = &fixture.servers else {
        return Ok(());
    };
    let join = Side::post(&fixture.service, &paths::queue(EMPTY));
    Fixture::first_accepted(&join).await?;
    let pairs = redis_pipeline::compare(&join, &servers.redis.url()).await;
    let figure = format!("join, {}, beside a pipeline", fixture.durability.name());
    let baseline = "commands of a bare Redis pipeline, 64 at once, each writing a field";
    table.push_pairs(figure, fixture.backend.name(), pairs, None, baseline);
    Ok(())
}

async fn add_position(fixture: &Fixture, table: &mut Table) -> anyhow::Result<()> {
    let tokens = fixture.tokens(EMPTY).await?;
    let position = Side::get_each(
        &fixture.service,
        &paths::position(EMPTY),
        paths::QUEUE_TOKEN,
        &tokens,
    );
    let pairs = compare(&position, &fixture.bare(&position).await?).await?;
    let figure = "position, with the token verified";
    table.push(Row::of_pairs(
        figure,
        fixture.backend.name(),
        &pairs,
        Some(0.85),
        BARE,
    ));
    Ok(())
}

async fn add_hold(fixture: &Fixture, table: &mut Table) -> anyhow::Result<()> {
    let (baseline, goal) = match fixture.backend {
        Backend::RedisPostgresql => (
            "a minimal axum handler around a minimal all-or-none script",
            Some(0.85),
        ),
        Backend::Embedded => ("a minimal axum handler around a lock and a set", None),
    };
    let pairs = hold_bench::compare(fixture, &fixture.baseline, "/holds", "/holds/").await?;
    table.push(Row::of_pairs(
        "hold of 4 seats, over HTTP",
        fixture.backend.name(),
        &pairs,
        goal,
        baseline,
    ));
    Ok(())
}

/// What a long queue costs: the start of a node, and joins and positions.
async fn add_growth(fixture: &Fixture, waiting: u32, table: &mut Table) -> anyhow::Result<()> {
    let backend = fixture.backend.name();
    let (filled, _) = fixture.with_waiting(FOURFOLD, waiting).await?;
    let seconds = filled.ready_after.as_secs_f64();
    let figure = format!("a node that starts with {waiting} joins in its journal is ready after");
    table.push(Row::lower_is_better(figure, backend, seconds, "s", None));

    let join = |sale: &str| Side::post(&filled.service, &paths::queue(sale));
    let pairs = compare(&join(FOURFOLD), &join(EMPTY)).await?;
    let figure = format!("join while {waiting} wait");
    table.push(Row::of_pairs(figure, backend, &pairs, Some(0.95), EMPTY_QUEUE));

    let position = |sale: &str, tokens: &[String]| {
        Side::get_each(
            &filled.service,
            &paths::position(sale),
            paths::QUEUE_TOKEN,
            tokens,
        )
    };
    let full = position(FOURFOLD, &filled.tokens(FOURFOLD).await?);
    let empty = position(EMPTY, &filled.tokens(EMPTY).await?);
    let pairs = compare(&full, &empty).await?;
    let figure = format!("position while {waiting} wait");
    table.push(Row::of_pairs(figure, backend, &pairs, Some(0.95), EMPTY_QUEUE));
    Ok(())
}

async fn add_origin(fixture: &Fixture, table: &mut Table) {
    let backend = fixture.backend.name();
    match origin_load::requests_each(fixture, ORIGIN_FANS, Duration::from_mins(1)).await {
        Ok(each) => {
            let figure = "requests of a waiting fan at the node, behind nginx";
            table.push(Row::lower_is_better(figure, backend, each, "requests", Some(1.0)));
        }
        Err(why) => table.not_measured.push(format!("origin, {backend}: {why:#}")),
    }
}
