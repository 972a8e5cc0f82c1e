//! Bots: places by the dozen, knocking before the call, forged and missing proofs. They may take places as everybody may;
//! nothing else may come of it.

use std::time::Duration;

use serde::Deserialize;
use stagedoor::demo::crowd::Joined;

use crate::{book::Step, crowd::Crowd, wire::Ask};

/// Bots are counted from here, above all fans.
const FIRST: u32 = 0xf000_0000;
const PLACES: u32 = 5;

#[derive(Deserialize)]
struct Place {
    token: String,
    number: Option<u64>,
}

/// What it is, and its method, path, headers and body.
type Try<'a> = (
    &'a str,
    &'static str,
    &'a str,
    &'a [(&'static str, &'a str)],
    Option<&'a str>,
);

/// One bot, until it is sent home.
pub async fn live(crowd: &Crowd, n: u32) {
    let dice = crowd.dice(FIRST + n, 0);
    let mut token = String::new();
    for place in 0..PLACES {
        let path = crowd.path("queue");
        let reply = crowd
            .call(
                Step::Join,
                crowd.now(),
                &Ask {
                    method: "POST",
                    path: &path,
                    headers: &[],
                    body: None,
                },
            )
            .await;
        if let Ok(reply) = reply
            && reply.is_ok()
            && let Some(Place { token: given, number }) = reply.json::<Place>()
        {
            // Each place is another subject: nobody signs in here.
            let customer = FIRST + n * PLACES + place;
            crowd.told.joined(Joined {
                customer,
                number,
                at: crowd.wall(),
                left_at: None,
            });
            token = given;
        }
    }
    let forged = forge(&token);
    let (door, hold) = (
        crowd.path("admission"),
        crowd.path(&format!("performances/{}/holds", crowd.config.performance)),
    );
    let wish = r#"{"best_available":{"quantity":4,"zone":null}}"#;
    let order =
        r#"{"hold":"00000000-0000-4000-8000-000000000000","payment":{"method":"card","token":"tok_ok"}}"#;
    loop {
        let with = |header| [(header, forged.as_str())];
        let tries: [Try<'_>; 6] = [
            ("entering without a token", "POST", &door, &[], None),
            (
                "entering with a forged token",
                "POST",
                &door,
                &with("queue-token"),
                None,
            ),
            ("holding without a pass", "POST", &hold, &[], Some(wish)),
            (
                "holding with a queue token for a pass",
                "POST",
                &hold,
                &[("admission-pass", token.as_str())],
                Some(wish),
            ),
            (
                "renewing a forged pass",
                "PUT",
                &door,
                &with("admission-pass"),
                None,
            ),
            ("ordering without a pass", "POST", "/v1/orders", &[], Some(order)),
        ];
        for (what, method, path, headers, body) in tries {
            let reply = crowd
                .call(
                    Step::Forged,
                    crowd.now(),
                    &Ask {
                        method,
                        path,
                        headers,
                        body,
                    },
                )
                .await;
            // Being told to come again is no verdict.
            if let Ok(reply) = reply
                && !matches!(reply.status, 429 | 503)
            {
                crowd.told.probed(what, reply.status);
            }
        }
        tokio::time::sleep(dice.pause(Duration::from_millis(500))).await;
    }
}

/// The same token with one letter changed in its middle.
fn forge(token: &str) -> String {
    let at = token.len() / 2;
    token
        .chars()
        .enumerate()
        .map(|(n, c)| {
            if n == at {
                if c == 'A' { 'B' } else { 'A' }
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_is_as_long_and_another() {
        let token = "abcdef.ghijk";
        assert_eq!(forge(token).len(), token.len());
        assert_ne!(forge(token), token);
        assert_eq!(forge(""), "");
    }
}
