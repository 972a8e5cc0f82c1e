//! What a node knows and Redis does not, or not yet: a number that was left, a visit that has ended.

use std::time::Duration;

use super::nodes::{Nodes, config};
use crate::{
    kernel::{Clock, SystemClock},
    waiting_room::{
        journal::record::{Join, PendingJoin},
        types::{BoxOfficeLoad, Durability, EnterOutcome, EntryState},
    },
};
use testkit::RedisServer;

/// Redis hears of what the journal holds a moment later, at worst with the next tick.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_left_is_not_handed_out_again_while_redis_lags() {
    let server = RedisServer::start().await.unwrap();
    let config = config(Durability::Committed);
    let nodes = Nodes::open(2, config.clone(), server.url()).await;
    let left = nodes.join(1, 0).await;
    nodes.room(0).leave(&left).await.unwrap();
    let as_before_the_leave = PendingJoin {
        number: u32::try_from(left.arrival).unwrap(),
        join: Join {
            subject: left.subject_hash,
            joined_at: left.joined_at,
        },
        epoch: nodes.room(0).context().store.epoch(),
    };
    let store = &nodes.room(0).context().store;
    let reinstated = store.reinstate_numbers(&[as_before_the_leave]).await.unwrap();
    assert_eq!(reinstated.len(), 1, "Redis knows the number as the subject's");

    let again = nodes.join(1, 1).await;
    assert!(again.arrival > left.arrival, "{again:?}");
    assert_eq!(nodes.join(1, 0).await, again, "on every node");
    nodes.checker(&config).await;
    nodes.life.stop();
}

/// The journal gets the end from a node that knows it, also when another node rebuilt the store without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_was_ending_when_redis_was_emptied_ends() {
    let server = RedisServer::start().await.unwrap();
    let config = config(Durability::Committed);
    let nodes = Nodes::open(3, config.clone(), server.url()).await;
    for n in 0..6 {
        let token = nodes.join(n, n).await;
        let room = nodes.room(n);
        let pass = loop {
            match room.enter(&token, BoxOfficeLoad::Normal).await {
                Ok(EnterOutcome::Admitted { pass, .. }) => break room.verify_pass(&pass).unwrap(),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let store = &room.context().store;
        store
            .end_visits(&[pass.visit], SystemClock::new().now())
            .await
            .unwrap();
        server.flush_all().await.unwrap();
        let left = async {
            while nodes.room(n + 1).position(&token).state != EntryState::Left {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), left).await;
        assert!(ended.is_ok(), "visit {n} goes on");
    }
    nodes.checker(&config).await;
    nodes.life.stop();
}
