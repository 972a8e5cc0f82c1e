//! Whether the shop's receiver takes events.

use std::sync::Arc;

use crate::{
    app::{build::event_receiver, preflight::report::Report},
    kernel::{Clock, SystemClock},
    ops::config::Settings,
};

const EVENTS: &str = "events";

/// Sends one test event, which is about nothing.
pub(super) async fn check(settings: &Settings, report: &mut Report) {
    let section = &settings.shop.events;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let receiver = match event_receiver(settings, &clock) {
        Ok(Some(receiver)) => receiver,
        Ok(None) if section.feed_token.is_empty() => {
            report.warn(
                EVENTS,
                "the shop hears nothing of what is sold",
                "set shop.events.url, or shop.events.feed_token for a shop that reads the feed",
            );
            return;
        }
        Ok(None) => {
            report.ok(EVENTS, "the shop reads the feed: no receiver is called");
            return;
        }
        Err(error) => {
            report.failed(EVENTS, format!("{error:#}"), "mend the section [shop.events]");
            return;
        }
    };
    match receiver.send_test(&settings.server.public_base).await {
        Ok(()) => report.ok(EVENTS, "the shop's receiver accepts a signed test event"),
        Err(why) => report.failed(
            EVENTS,
            format!("the shop's receiver does not accept a signed test event: {why}"),
            "it must answer 2xx within shop.events.timeout_ms, at shop.events.url itself, under the same \
             secret, and also to types that it does not know (here stagedoor.test.v1)",
        ),
    }
}
