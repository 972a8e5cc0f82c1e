//! The rows over HTTP, in alternation.

use stagedoor::demo::client::paths;

use super::usual::{STATIC_STATUS, StaticStatus, UsualWay};
use crate::{
    baseline_table::{
        fixture::{EMPTY, Fixture},
        hold_bench,
        paired::{Pairs, Side, compare},
        table::{Row, Table},
    },
    baselines::{usual_queue, usual_seat_locks},
};

/// Adds the five rows. A row that cannot be measured on this machine is reported.
pub(super) async fn add(fixture: &Fixture, usual: &UsualWay, table: &mut Table) {
    push(
        table,
        fixture,
        "join",
        "`ZADD NX` and `ZRANK` in one pipeline",
        join(fixture, usual).await,
    );
    push(
        table,
        fixture,
        "position",
        "`ZRANK` and a counter in one pipeline",
        position(fixture, usual).await,
    );
    push(
        table,
        fixture,
        "status",
        "`ZCARD` and a counter in one pipeline",
        status(fixture, usual).await,
    );
    push(
        table,
        fixture,
        "status, cached",
        "a static file of nginx",
        static_status(fixture).await,
    );
    let holds = hold_bench::compare(
        fixture,
        &usual.server,
        usual_seat_locks::HOLDS,
        usual_seat_locks::HOLD,
    )
    .await;
    push(
        table,
        fixture,
        "hold of 4 seats",
        "`SET NX EX` per seat in one pipeline, with roll back",
        holds,
    );
}

fn push(table: &mut Table, fixture: &Fixture, figure: &str, usual: &str, pairs: anyhow::Result<Pairs>) {
    let backend = fixture.backend.name();
    match pairs {
        Ok(pairs) => table.push(Row::of_pairs(figure, backend, &pairs, None, usual)),
        Err(why) => table.not_measured.push(format!("{figure}: {why:#}")),
    }
}

async fn join(fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Pairs> {
    let ours = Side::post(&fixture.service, &paths::queue(EMPTY));
    compare(&ours, &Side::post(&usual.server, usual_queue::QUEUE)).await
}

async fn position(fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Pairs> {
    let ours = Side::get_each(
        &fixture.service,
        &paths::position(EMPTY),
        paths::QUEUE_TOKEN,
        &fixture.tokens(EMPTY).await?,
    );
    let theirs = Side::get_each(
        &usual.server,
        usual_queue::POSITION,
        paths::QUEUE_TOKEN,
        &usual.tokens().await?,
    );
    compare(&ours, &theirs).await
}

async fn status(fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Pairs> {
    let ours = Side::get(&fixture.service, &paths::status(EMPTY));
    compare(&ours, &Side::get(&usual.server, usual_queue::STATUS)).await
}

async fn static_status(fixture: &Fixture) -> anyhow::Result<Pairs> {
    let ours = Side::get(&fixture.service, &paths::status(EMPTY));
    let reply = Fixture::first_accepted(&ours).await?;
    let nginx = StaticStatus::start(&reply.body).await?;
    compare(&ours, &Side::get(&nginx.server, STATIC_STATUS)).await
}
