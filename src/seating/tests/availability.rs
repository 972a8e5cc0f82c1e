//! Snapshots, frames and subscribers.

use std::time::Duration;

use crate::seating::{
    EncodedSnapshot, HoldSpec,
    plan::Attribute,
    seat::SeatIx,
    tests::{BoxOffice, best, box_office},
};

async fn json(office: &BoxOffice, section: Option<&str>) -> EncodedSnapshot {
    office.performance.snapshot_json(section).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn expired_hold_is_ended_and_published() {
    let office = box_office(100).await;
    let mut watch = office.performance.subscribe(None).unwrap();
    office.held(1, HoldSpec::Seats(office.seats(&["S-A-1"]))).await;
    let frame = watch.next().await.unwrap();
    let text = std::str::from_utf8(&frame).unwrap();
    assert!(
        text.ends_with("\"seats\":{\"S-A-1\":\"held\"}}\n\n")
            && text.contains("event: delta\ndata: {\"version\":"),
        "{text}"
    );
    office.clock.advance(Duration::from_mins(7));
    let frame = watch.next().await.unwrap();
    assert!(
        std::str::from_utf8(&frame)
            .unwrap()
            .contains("{\"S-A-1\":\"free\"}")
    );
    office.lifecycle.stop();
    assert_eq!(watch.next().await, None);
    assert!(
        office.lifecycle.wait_idle(Duration::from_secs(5)).await,
        "the background tasks end"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_plus_later_frames_gives_the_current_states() {
    let office = box_office(300).await;
    office.held(1, HoldSpec::Seats(office.seats(&["S-A-1"]))).await;
    let snapshot = json(&office, None).await;
    let mut seats: serde_json::Value = serde_json::from_slice(&snapshot.body).unwrap();
    assert_eq!(
        (seats["version"].as_u64(), &seats["seats"]["S-A-1"]),
        (Some(snapshot.version), &"held".into())
    );
    assert_eq!(seats["seats"].as_object().unwrap().len(), 300);
    let unzipped =
        std::io::read_to_string(flate2::read::GzDecoder::new(&snapshot.gzip.unwrap()[..])).unwrap();
    assert_eq!(unzipped.as_bytes(), snapshot.body);
    office
        .held(2, HoldSpec::Seats(office.seats(&["S-B-1", "S-B-2"])))
        .await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    office.held(3, best(2)).await;
    let mut watch = office.performance.subscribe(Some(snapshot.version)).unwrap();
    for _ in 0..2 {
        let frame = watch.next().await.unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        let data: serde_json::Value =
            serde_json::from_str(text.trim_end().split("data: ").nth(1).unwrap()).unwrap();
        for (guid, state) in data["seats"].as_object().unwrap() {
            seats["seats"][guid] = state.clone();
        }
    }
    let now = json(&office, None).await;
    assert_ne!(now.etag, snapshot.etag);
    let now: serde_json::Value = serde_json::from_slice(&now.body).unwrap();
    assert_eq!(now["seats"], seats["seats"]);
}

#[tokio::test(start_paused = true)]
async fn snapshot_is_fresh_and_encoded_once_a_change() {
    let office = box_office(100).await;
    let first = json(&office, Some("Stalls")).await;
    office.held(1, HoldSpec::Seats(office.seats(&["S-A-1"]))).await;
    let second = json(&office, Some("Stalls")).await;
    assert_eq!(
        json(&office, Some("Stalls")).await.body.as_ptr(),
        second.body.as_ptr(),
        "cached while nothing changes"
    );
    assert!(
        second.version > first.version
            && std::str::from_utf8(&second.body)
                .unwrap()
                .contains("\"S-A-1\":\"held\"")
    );
    assert!(
        !std::str::from_utf8(&second.body).unwrap().contains("\"B-"),
        "only the section's seats"
    );
    let roof = office.performance.snapshot_json(Some("Roof")).await;
    assert!(roof.unwrap().is_none());
    let packed = office.performance.snapshot_packed();
    assert_eq!(&packed.body[..8], second.version.to_le_bytes());
    assert_eq!(
        (&packed.body[8..12], packed.body.len()),
        (&100_u32.to_le_bytes()[..], 12 + 25)
    );
    let seat = office.seats(&["S-A-1"])[0].index();
    assert_eq!(packed.body[12 + seat / 4] >> (2 * (seat % 4)) & 3, 1);
}

/// However many ask, and however much is held meanwhile: a large snapshot costs milliseconds.
#[tokio::test]
async fn a_large_snapshot_is_encoded_once_a_frame_for_all_who_ask() {
    let office = box_office(2_000).await;
    let first = json(&office, None).await;
    for (buyer, seat) in [(1, "S-A-1"), (2, "S-A-3")] {
        office.held(buyer, HoldSpec::Seats(office.seats(&[seat]))).await;
        let asked = (0..8).map(|_| json(&office, None));
        for snapshot in futures_util::future::join_all(asked).await {
            assert_eq!(snapshot.body.as_ptr(), first.body.as_ptr(), "no frame yet");
        }
    }
    assert!(
        office.performance.snapshot_packed().version > first.version,
        "always fresh"
    );
    office.performance.publish_changes().await.unwrap();
    let asked = (0..8).map(|_| json(&office, None));
    let after = futures_util::future::join_all(asked).await;
    assert!(after[0].version > first.version);
    for snapshot in &after {
        assert_eq!(snapshot.body.as_ptr(), after[0].body.as_ptr(), "encoded once");
    }
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_limited_and_stale_ones_reset() {
    let office = box_office(100).await;
    let version = office.performance.snapshot_packed().version;
    let mut old = office.performance.subscribe(Some(version - 1)).unwrap();
    let mut from_the_future = office.performance.subscribe(Some(version + 1_000_000)).unwrap();
    assert!(
        office.performance.subscribe(None).is_none(),
        "at most two subscribers"
    );
    for watch in [&mut old, &mut from_the_future] {
        let frame = watch.next().await.unwrap();
        assert_eq!(
            std::str::from_utf8(&frame).unwrap(),
            format!("id: {version}\nevent: reset\ndata: {{\"version\":{version}}}\n\n")
        );
    }
    office.held(1, best(1)).await;
    assert!(old.next().await.unwrap().starts_with(b"id: "));
    drop(old);
    assert!(office.performance.subscribe(None).is_some());
}

#[tokio::test(start_paused = true)]
async fn seats_for_wheelchairs_are_counted_apart() {
    let office = box_office(300).await;
    let performance = &office.performance;
    let plan = std::sync::Arc::clone(performance.plan());
    let with = |attribute| -> Vec<SeatIx> {
        let seats = plan.seats();
        seats
            .filter(|seat| plan.has_attribute(*seat, attribute))
            .collect()
    };
    let (spaces, companions) = (with(Attribute::Accessible), with(Attribute::Companion));
    assert!(!spaces.is_empty() && !companions.is_empty());
    let count = || {
        let stock = performance.stock();
        let sums = stock.iter().map(|zone| [zone.free, zone.free_for_wheelchairs]);
        sums.fold([0, 0], |sum, zone| [sum[0] + zone[0], sum[1] + zone[1]])
    };
    let kept = u32::try_from(spaces.len() + companions.len()).unwrap();
    assert_eq!(count(), [300 - kept, kept]);

    let others: Vec<SeatIx> = plan
        .seats()
        .filter(|seat| !spaces.contains(seat) && !companions.contains(seat))
        .collect();
    performance.set_blocked(&others, true).await.unwrap();
    assert_eq!(count(), [0, kept], "only they are left");
    performance.set_blocked(&spaces, true).await.unwrap();
    let freed = u32::try_from(companions.len()).unwrap();
    assert_eq!(
        count(),
        [freed, 0],
        "beside a space that is gone any visitor may sit"
    );
}
