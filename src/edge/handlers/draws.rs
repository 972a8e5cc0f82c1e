//! Operations of the random draw: the published values, the list of entries, and a visitor's own receipt.

use std::fmt::Write as _;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{CachedBody, HandlerResult, cacheable, private_json, response::has_current};
use crate::{
    edge::{
        auth::extractors::{QueueHolder, SaleRoom},
        errors::problem::{Problem, ProblemType},
        handlers::request::ClientAddress,
        overload::client_slot::ClientSlot,
        state::WaitingRoomState,
    },
    platform::shutdown::TaskPanicked,
    waiting_room::{DrawLeaves, ReceiptOutcome, draw::Digest},
};

/// `Cache-Control` while values are still to be published.
const PENDING_CACHE: &str = "public, max-age=1";
/// `Cache-Control` of what never changes again.
const DRAWN_CACHE: &str = "public, max-age=3600";
const OCTET_STREAM: &str = "application/octet-stream";
/// Length of a leaf in JSON: 64 digits, quotation marks, a comma.
const JSON_LEAF_BYTES: usize = 67;

/// Lists that one client is being sent at once. A client may read slowly; the others still get theirs.
const LISTS_PER_CLIENT_MAX: u32 = 2;

/// Some leaves, encoded.
type Block = Result<Bytes, TaskPanicked>;

/// The entries of a draw. The response is streamed: a draw may have a million of them.
#[derive(Serialize, ToSchema)]
pub struct DrawEntriesResponse {
    /// How many entries are in the draw.
    pub(crate) entries: u32,
    /// The Merkle root over `leaves`.
    pub(crate) root: Digest,
    /// One leaf for each entry, in order of arrival.
    pub(crate) leaves: Vec<Digest>,
}

/// `GET /v1/sales/{sale}/draw`: everything that is published of the draw so far.
pub async fn draw(SaleRoom { room, .. }: SaleRoom, headers: HeaderMap) -> HandlerResult {
    let published = room.published_draw().ok_or_else(no_draw)?;
    let json = Bytes::from(serde_json::to_vec(&published).expect("what is published is JSON"));
    let step = u8::from(published.entries.is_some()) + u8::from(published.seed.is_some());
    let etag = format!("\"{}-{step}\"", published.commitment);
    let cache_control = if published.seed.is_some() {
        DRAWN_CACHE
    } else {
        PENDING_CACHE
    };
    let body = CachedBody {
        plain: &json,
        gzip: None,
    };
    Ok(cacheable(
        &headers,
        "application/json",
        &etag,
        cache_control,
        body,
    ))
}

/// `GET /v1/sales/{sale}/draw/entries`: the leaves, as JSON or as 32 bytes each.
pub async fn entries(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { room, .. }: SaleRoom,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> HandlerResult {
    let leaves = room
        .draw_leaves()
        .ok_or_else(|| no_draw().detail("the entries are not published yet"))?;
    let busy = || Problem::new(ProblemType::Overloaded).retry_after_s(app.retry_after_jitter_s(5, 20));
    let slot = app.limits.draw_lists.take(address, LISTS_PER_CLIENT_MAX);
    let (slot, leaves) = (slot.ok_or_else(busy)?, leaves.map_err(|()| busy())?);
    let is_binary = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(OCTET_STREAM));
    let etag = format!("\"{}{}\"", leaves.root, if is_binary { "-binary" } else { "" });
    let mut response = if has_current(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        leaves_response(leaves, is_binary, slot)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(DRAWN_CACHE));
    out.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn leaves_response(leaves: DrawLeaves, is_binary: bool, slot: ClientSlot) -> Response {
    let (body, content_type) = if is_binary {
        (list_body(binary_leaves(leaves), slot), OCTET_STREAM)
    } else {
        (list_body(json_leaves(leaves), slot), "application/json")
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body that keeps the client's slot until it is sent or given up.
fn list_body(blocks: impl Stream<Item = Block> + Send + 'static, slot: ClientSlot) -> Body {
    Body::from_stream(blocks.inspect(move |_| _ = &slot))
}

fn binary_leaves(leaves: DrawLeaves) -> impl Stream<Item = Block> + Send {
    leaves.into_stream(|leaves, _| leaves.iter().flat_map(|leaf| leaf.0).collect())
}

/// Writes a [`DrawEntriesResponse`] block by block.
fn json_leaves(leaves: DrawLeaves) -> impl Stream<Item = Block> + Send {
    let head = format!(
        "{{\"entries\":{},\"root\":\"{}\",\"leaves\":[",
        leaves.entries, leaves.root
    );
    let blocks = leaves.into_stream(|leaves, is_first| {
        let mut text = String::with_capacity(leaves.len() * JSON_LEAF_BYTES);
        for (index, leaf) in leaves.iter().enumerate() {
            let comma = if is_first && index == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\"{leaf}\"");
        }
        Bytes::from(text)
    });
    stream::iter([Ok(head.into())])
        .chain(blocks)
        .chain(stream::iter([Ok(Bytes::from_static(b"]}"))]))
}

/// `GET /v1/sales/{sale}/draw/receipt`: the proof that the caller's entry is in the draw.
pub async fn receipt(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    holder: QueueHolder,
) -> HandlerResult {
    match holder.room.draw_receipt(&holder.token).await {
        Ok(receipt) => Ok(private_json(StatusCode::OK, &receipt)),
        Err(ReceiptOutcome::NoDraw) => Err(no_draw()),
        Err(ReceiptOutcome::Busy) => {
            Err(Problem::new(ProblemType::Overloaded).retry_after_s(app.retry_after_jitter_s(2, 10)))
        }
        Err(ReceiptOutcome::Unknown) => Err(Problem::new(ProblemType::NotFound)
            .detail("this queue entry is unknown here, or not committed yet")),
    }
}

fn no_draw() -> Problem {
    Problem::new(ProblemType::NotFound).detail("this sale has no draw")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::overload::client_slot::ClientSlots;

    #[test]
    fn a_list_counts_for_its_client_until_it_is_sent_or_given_up() {
        let (slots, client) = (ClientSlots::default(), "192.0.2.1".parse().unwrap());
        let unread = || {
            let slot = slots.take(client, LISTS_PER_CLIENT_MAX)?;
            Some(list_body(stream::pending(), slot))
        };
        let lists: Vec<_> = (0..LISTS_PER_CLIENT_MAX).map(|_| unread().unwrap()).collect();
        assert!(unread().is_none());
        drop(lists);
        assert!(unread().is_some());
    }
}
