//! Bots: several queue entries each, requests before the call, and missing or forged proofs.
//!
//! Bots may take queue entries like every visitor. The auditor checks that nothing else comes of them.

use std::time::Duration;

use stagedoor::demo::client::{
    Call,
    messages::{QueueEntry, best_available_request, order_request},
    paths,
};

use super::state::Crowd;
use crate::http1::HttpRequest;

/// Bots have customer numbers from here, above all visitors.
const FIRST_CUSTOMER: u32 = 0xf000_0000;
const ENTRIES: u32 = 5;
const MEDIAN_PAUSE: Duration = Duration::from_millis(500);
/// A hold that does not exist.
const NO_HOLD: &str = "00000000-0000-4000-8000-000000000000";

/// A call without the proof it needs.
struct Attempt<'a> {
    what: &'static str,
    request: HttpRequest<'a>,
}

/// Runs one bot until it is aborted.
pub(super) async fn run(crowd: &Crowd, bot: u32) {
    let rng = crowd.rng(FIRST_CUSTOMER + bot, 0);
    let token = join_several(crowd, bot).await;
    let forged = forge(&token);
    let admission = paths::admission(&crowd.config.sale);
    let holds = paths::holds(&crowd.config.sale, &crowd.config.performance);
    let hold = best_available_request(4, None, 0).to_string();
    let order = order_request(NO_HOLD, "tok_ok").to_string();
    let forged_token = [(paths::QUEUE_TOKEN, forged.as_str())];
    let forged_pass = [(paths::ADMISSION_PASS, forged.as_str())];
    let token_as_pass = [(paths::ADMISSION_PASS, token.as_str())];
    let enter = HttpRequest::post(&admission);
    let attempts = [
        Attempt {
            what: "entering without a token",
            request: enter,
        },
        Attempt {
            what: "entering with a forged token",
            request: enter.with_headers(&forged_token),
        },
        Attempt {
            what: "holding without a pass",
            request: HttpRequest::post(&holds).with_body(&hold),
        },
        Attempt {
            what: "holding with a queue token as the pass",
            request: HttpRequest::post(&holds)
                .with_body(&hold)
                .with_headers(&token_as_pass),
        },
        Attempt {
            what: "renewing a forged pass",
            request: HttpRequest::new("PUT", &admission).with_headers(&forged_pass),
        },
        Attempt {
            what: "ordering without a pass",
            request: HttpRequest::post(paths::ORDERS).with_body(&order),
        },
    ];
    loop {
        for Attempt { what, request } in &attempts {
            let result = crowd.send_recorded(Call::Forged, crowd.elapsed(), request).await;
            // A request to come again says nothing about the proof.
            if let Ok(reply) = result
                && !reply.asks_to_wait()
            {
                crowd.log.probed(what, reply.status);
            }
        }
        tokio::time::sleep(rng.pause(MEDIAN_PAUSE)).await;
    }
}

/// Joins several times, each time as another anonymous visitor. The last token.
async fn join_several(crowd: &Crowd, bot: u32) -> String {
    let path = paths::queue(&crowd.config.sale);
    let mut last = String::new();
    for entry in 0..ENTRIES {
        let result = crowd
            .send_recorded(Call::Join, crowd.elapsed(), &HttpRequest::post(&path))
            .await;
        if let Ok(reply) = result
            && reply.is_ok()
            && let Some(QueueEntry {
                token: Some(token),
                number,
                ..
            }) = reply.json()
        {
            crowd
                .log
                .joined(FIRST_CUSTOMER + bot * ENTRIES + entry, number, crowd.now());
            last = token.into();
        }
    }
    last
}

/// The same token with one letter in the middle changed.
fn forge(token: &str) -> String {
    let middle = token.len() / 2;
    let changed = |(at, letter): (usize, char)| match letter {
        'A' if at == middle => 'B',
        _ if at == middle => 'A',
        letter => letter,
    };
    token.chars().enumerate().map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_differs_in_one_letter() {
        let token = "abcdef.ghijk";
        assert_eq!(forge(token).len(), token.len());
        assert_ne!(forge(token), token);
        assert_eq!(forge(""), "");
    }
}
