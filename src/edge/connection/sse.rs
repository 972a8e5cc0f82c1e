//! Event streams: frames that were encoded once for everybody, a sign of life now and then, an end when the house closes.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};

use crate::{kernel::Entropy, platform::shutdown::Lifecycle};

/// Whatever yields encoded frames until it has no more.
pub(crate) trait FrameSource: Send + 'static {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>>;
}

/// Within this time of the house's closing the streams end, each at a moment of its own.
const ENDS_WITHIN_MS: u64 = 3_000;

const ALIVE: Bytes = Bytes::from_static(b": alive\n\n");
/// Proxies and phones cut connections that say nothing for half a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Resolves to the last words when the stream is to end.
type Closing = Pin<Box<dyn Future<Output = Bytes> + Send>>;

enum Stage<F> {
    Opening(Bytes, F, Closing),
    Open(F, Closing),
    Closed,
}

/// Answers with a stream. `first` is sent at once; every client is told a reconnect delay of its own, so that a restart
/// does not bring all of them back in the same moment, and another when the house closes.
pub(crate) fn event_stream(
    first: Option<Bytes>,
    frames: impl FrameSource,
    life: Lifecycle,
    entropy: &Arc<dyn Entropy>,
) -> Response {
    let retry = || Bytes::from(format!("retry: {}\n\n", 1_000 + entropy.below(4_000)));
    let mut opening = vec![retry()];
    opening.extend(first);
    let opening = Bytes::from(opening.concat());
    let (lingers, farewell) = (Duration::from_millis(entropy.below(ENDS_WITHIN_MS)), retry());
    let closing: Closing = Box::pin(async move {
        life.stopping().await;
        tokio::time::sleep(lingers).await;
        farewell
    });
    let body = stream::unfold(Stage::Opening(opening, frames, closing), |stage| async move {
        let (frame, next) = match stage {
            Stage::Opening(opening, frames, closing) => (opening, Stage::Open(frames, closing)),
            Stage::Open(mut frames, mut closing) => {
                let frame = tokio::select! {
                    frame = frames.next() => frame?,
                    () = tokio::time::sleep(ALIVE_EVERY) => ALIVE,
                    farewell = closing.as_mut() => return Some((Ok(farewell), Stage::Closed)),
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
    // nginx would otherwise collect frames in a buffer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
