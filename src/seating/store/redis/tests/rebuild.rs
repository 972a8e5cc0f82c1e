//! Rebuilds by competing and dying nodes.

use std::time::Duration;

use crate::{
    kernel::{Timestamp, VisitId},
    seating::{
        hold::RestoredClaim,
        seat::{SeatIx, SeatStates},
        store::{
            fixture::{customer, hold_id, request},
            port::SeatStore,
            redis::{
                rebuild::RebuildOutcome,
                tests::{SEATS, TwoNodes},
            },
        },
        types::StoreError,
    },
};

#[tokio::test]
async fn rebuild_for_a_superseded_epoch_is_refused() {
    let pair = TwoNodes::start().await;
    let [slow, quick] = &pair.nodes;
    let dataset_id = slow.dataset_status().await.unwrap().unwrap().dataset_id;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let claim = RestoredClaim {
        hold: hold_id(1),
        subject: customer(1),
        visit: VisitId::from_uuid(uuid::Uuid::nil()),
        seats: vec![SeatIx(0)],
        booked: true,
        until: Timestamp::default(),
    };
    let late_claims = async {
        wait.await.unwrap();
        Ok::<_, StoreError>(vec![claim])
    };
    let slow_rebuild = slow.rebuild(2, &dataset_id, late_claims);
    let quick_rebuild = async {
        while quick.dataset_status().await.unwrap().unwrap().rebuilding_epoch != Some(2) {
            tokio::task::yield_now().await;
        }
        let no_claims = || async { Ok::<_, StoreError>(Vec::new()) };
        assert_eq!(
            quick.hold(&request(7, 7, &[7])).await,
            Err(StoreError::Recovering),
            "no calls are answered meanwhile"
        );
        assert_eq!(
            quick.rebuild(2, &dataset_id, no_claims()).await,
            Ok(RebuildOutcome::Busy),
            "only one node rebuilds"
        );
        assert_eq!(
            quick.rebuild(3, &dataset_id, no_claims()).await,
            Ok(RebuildOutcome::Ready),
            "a later epoch takes precedence"
        );
        quick.activate(3, &dataset_id);
        go.send(()).unwrap();
    };
    let (slow_rebuild, ()) = tokio::join!(slow_rebuild, quick_rebuild);
    assert_eq!(slow_rebuild, Err(StoreError::Recovering));
    quick.activate(3, &dataset_id);
    assert_eq!(quick.load().await.unwrap().1, SeatStates::free(SEATS));
    assert_eq!(
        slow.rebuild(2, &dataset_id, async { Ok::<_, StoreError>(Vec::new()) })
            .await,
        Ok(RebuildOutcome::Superseded)
    );
}

#[tokio::test]
async fn node_that_dies_during_a_rebuild_is_replaced() {
    let pair = TwoNodes::start().await;
    let [dying, surviving] = &pair.nodes;
    let dataset_id = dying.dataset_status().await.unwrap().unwrap().dataset_id;
    let never = std::future::pending::<Result<Vec<RestoredClaim>, StoreError>>();
    let rebuild =
        tokio::time::timeout(Duration::from_millis(200), dying.rebuild(2, &dataset_id, never)).await;
    assert!(rebuild.is_err());
    let no_claims = || async { Ok::<_, StoreError>(Vec::new()) };
    assert_eq!(
        surviving.rebuild(2, &dataset_id, no_claims()).await,
        Ok(RebuildOutcome::Busy),
        "the node may only be slow"
    );
    pair.server
        .run(&["PEXPIRE", "{sale:1}:rebuild", "1"])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        surviving.rebuild(2, &dataset_id, no_claims()).await,
        Ok(RebuildOutcome::Ready)
    );
}
