//! What those who wait cost a node behind nginx: the page asks for the board alone, and the board comes from the cache.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use stagedoor::{
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
    platform::http_client::HttpClient,
    simulation::servers::Nginx,
};

use super::house::{Server, join};

/// How long they wait here: long enough for each to look several times.
const WAIT: Duration = Duration::from_mins(1);
/// What the page does far from the front (`js/queue.js`), and the jitter of a tenth either way (`js/net.js`).
const LOOK_EVERY: Duration = Duration::from_secs(20);
const JOIN_AT_ONCE: usize = 128;

/// So many join through nginx, and wait as the page does: what is hers alone it has from the join's answer, until the
/// board says that she is called.
pub(super) async fn wait(house: &Server, fans: usize, client: &HttpClient) {
    let address: SocketAddr = house.base.trim_start_matches("http://").parse().expect("an address");
    let nginx = match Nginx::start(&[address], &[address]).await {
        Ok(nginx) => nginx,
        Err(error) => return println!("waiting: not measured: {error}"),
    };
    let base: Arc<str> = nginx.url().into();
    let mut joining = Vec::new();
    for n in 0..JOIN_AT_ONCE {
        let (base, client) = (Arc::clone(&base), client.clone());
        let share = fans / JOIN_AT_ONCE + usize::from(n < fans % JOIN_AT_ONCE);
        joining.push(tokio::spawn(async move {
            for _ in 0..share {
                join(&client, &base, "closed").await;
            }
        }));
    }
    for joined in joining {
        joined.await.expect("no join fails");
    }
    let board: Uri = format!("{base}/v1/sales/closed/board").parse().expect("a URL");
    let (before, clock) = (house.asked(client).await, Arc::new(SystemClock::new()));
    let started = clock.monotonic();
    let waiting: Vec<_> = (0..fans)
        .map(|_| {
            let (board, client, clock) = (board.clone(), client.clone(), Arc::clone(&clock));
            tokio::spawn(async move {
                let (mut looks, mut largest) = (0_u32, 0);
                // They came at different moments.
                tokio::time::sleep(LOOK_EVERY.mul_f64(OsEntropy.unit())).await;
                while clock.monotonic().saturating_sub(started) < WAIT {
                    let answer = client.call(Method::GET, board.clone(), &[], Bytes::new()).await.expect("an answer");
                    assert_eq!(answer.status, StatusCode::OK);
                    (looks, largest) = (looks + 1, answer.body.len().max(largest));
                    tokio::time::sleep(LOOK_EVERY.mul_f64(0.9 + 0.2 * OsEntropy.unit())).await;
                }
                (looks, largest)
            })
        })
        .collect();
    let (mut looks, mut largest) = (0, 0);
    for one in waiting {
        let (hers, bytes) = one.await.expect("no look fails");
        (looks, largest) = (looks + hers, bytes.max(largest));
    }
    let (asked, seconds) = (house.asked(client).await - before, clock.monotonic().saturating_sub(started).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
    let (each, a_second) = (asked as f64 / fans as f64, asked as f64 / seconds);
    println!(
        "{fans} wait {seconds:.0} s behind nginx: {looks} looks at the board ({largest} B; goal <= 2048), of which {asked} came to the node, \
         {a_second:.2} a second, {each:.4} a fan between her join and her call; goal <= 1"
    );
}
