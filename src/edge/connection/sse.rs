//! Responses that are event streams: frames encoded once for all subscribers, keep-alive comments, an orderly
//! end at shutdown.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};

use crate::{kernel::Entropy, platform::shutdown::Lifecycle};

/// A source of encoded frames.
pub(crate) trait FrameSource: Send + 'static {
    /// The next frame; `None` ends the stream.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>>;
}

/// At shutdown the streams end within this time, each at a random moment.
const ENDS_WITHIN_MS: u64 = 3_000;

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// Proxies and phones cut connections that are silent for half a minute.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(15);

/// Resolves to the last frame when the stream is to end.
type Closing = Pin<Box<dyn Future<Output = Bytes> + Send>>;

enum Stage<F> {
    Opening(Bytes, F, Closing),
    Open(F, Closing),
    Closed,
}

/// An event stream that sends `first` at once and then `frames`.
///
/// Each client gets its own reconnect delay, and another at shutdown, so that a restart does not bring all of
/// them back in the same moment.
pub(crate) fn event_stream(
    first: Option<Bytes>,
    frames: impl FrameSource,
    lifecycle: Lifecycle,
    entropy: &Arc<dyn Entropy>,
) -> Response {
    let retry = || Bytes::from(format!("retry: {}\n\n", 1_000 + entropy.below(4_000)));
    let mut opening = vec![retry()];
    opening.extend(first);
    let opening = Bytes::from(opening.concat());
    let lingers = Duration::from_millis(entropy.below(ENDS_WITHIN_MS));
    let last = retry();
    let closing: Closing = Box::pin(async move {
        lifecycle.stopping().await;
        tokio::time::sleep(lingers).await;
        last
    });
    let body = stream::unfold(Stage::Opening(opening, frames, closing), |stage| async move {
        let (frame, next) = match stage {
            Stage::Opening(opening, frames, closing) => (opening, Stage::Open(frames, closing)),
            Stage::Open(mut frames, mut closing) => {
                let frame = tokio::select! {
                    frame = frames.next() => frame?,
                    () = tokio::time::sleep(KEEP_ALIVE_PERIOD) => KEEP_ALIVE,
                    last = closing.as_mut() => return Some((Ok(last), Stage::Closed)),
                };
                (frame, Stage::Open(frames, closing))
            }
            Stage::Closed => return None,
        };
        Some((Ok::<_, Infallible>(frame), next))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Otherwise nginx buffers the frames.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
