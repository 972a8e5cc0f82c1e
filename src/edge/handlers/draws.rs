//! Operations of the random draw: the published values, the list of entries, and a visitor's own receipt.

use std::convert::Infallible;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{CachedBody, HandlerResult, cacheable, private_json, response::has_current};
use crate::{
    edge::{
        auth::extractors::{QueueHolder, SaleRoom},
        errors::problem::{Problem, ProblemType},
    },
    waiting_room::{DrawLeaves, ReceiptOutcome, draw::Digest},
};

/// `Cache-Control` while values are still to be published.
const PENDING_CACHE: &str = "public, max-age=1";
/// `Cache-Control` of what never changes again.
const DRAWN_CACHE: &str = "public, max-age=3600";
const OCTET_STREAM: &str = "application/octet-stream";

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
pub async fn entries(SaleRoom { room, .. }: SaleRoom, headers: HeaderMap) -> HandlerResult {
    let leaves = room
        .draw_leaves()
        .ok_or_else(|| no_draw().detail("the entries are not published yet"))?;
    let leaves = leaves.map_err(|()| Problem::new(ProblemType::Overloaded).retry_after_s(10))?;
    let is_binary = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(OCTET_STREAM));
    let etag = format!("\"{}{}\"", leaves.root, if is_binary { "-binary" } else { "" });
    let mut response = if has_current(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        leaves_response(leaves, is_binary)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(DRAWN_CACHE));
    out.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn leaves_response(leaves: DrawLeaves, is_binary: bool) -> Response {
    let (body, content_type) = if is_binary {
        (binary_leaves(leaves), OCTET_STREAM)
    } else {
        (json_leaves(leaves), "application/json")
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn binary_leaves(leaves: DrawLeaves) -> Body {
    Body::from_stream(leaves.into_stream().map(|block| {
        let bytes: Vec<u8> = block.iter().flat_map(|leaf| leaf.0).collect();
        Ok::<_, Infallible>(Bytes::from(bytes))
    }))
}

/// Writes a [`DrawEntriesResponse`] block by block.
fn json_leaves(leaves: DrawLeaves) -> Body {
    let head = format!(
        "{{\"entries\":{},\"root\":\"{}\",\"leaves\":[",
        leaves.entries, leaves.root
    );
    let blocks = leaves.into_stream().enumerate().map(|(index, block)| {
        let texts: Vec<String> = block.iter().map(|leaf| format!("\"{leaf}\"")).collect();
        format!("{}{}", if index > 0 { "," } else { "" }, texts.join(","))
    });
    let whole = stream::iter([head])
        .chain(blocks)
        .chain(stream::iter(["]}".to_owned()]));
    Body::from_stream(whole.map(|text| Ok::<_, Infallible>(Bytes::from(text))))
}

/// `GET /v1/sales/{sale}/draw/receipt`: the proof that the caller's entry is in the draw.
pub async fn receipt(holder: QueueHolder) -> HandlerResult {
    match holder.room.draw_receipt(&holder.token).await {
        Ok(receipt) => Ok(private_json(StatusCode::OK, &receipt)),
        Err(ReceiptOutcome::NoDraw) => Err(no_draw()),
        Err(ReceiptOutcome::Unknown) => Err(Problem::new(ProblemType::NotFound)
            .detail("this queue entry is unknown here, or not committed yet")),
    }
}

fn no_draw() -> Problem {
    Problem::new(ProblemType::NotFound).detail("this sale has no draw")
}
