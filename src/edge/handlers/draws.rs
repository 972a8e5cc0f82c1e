//! The fair draw's calls: what is published, the list of leaves, and a fan's own receipt.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::edge::handlers::{HandlerResult, CachedBody, private_json, cacheable};
use crate::{
    edge::{
        auth::extractors::{SaleRoom, QueueHolder},
        errors::problem::{Kind, Problem},
    },
    waiting_room::{DrawLeaves, ReceiptOutcome},
};

const PENDING_CACHE: &str = "public, max-age=1";
const DRAWN_CACHE: &str = "public, max-age=3600";

pub async fn draw(SaleRoom { room, .. }: SaleRoom, headers: HeaderMap) -> HandlerResult {
    let published = room
        .published_draw()
        .ok_or_else(|| Problem::new(Kind::NotFound))?;
    let json = Bytes::from(serde_json::to_vec(&published).expect("what is published is JSON"));
    let step = u8::from(published.entries.is_some()) + u8::from(published.seed.is_some());
    let etag = format!("\"{}-{step}\"", published.commitment);
    let cache = if published.seed.is_some() {
        DRAWN_CACHE
    } else {
        PENDING_CACHE
    };
    Ok(cacheable(
        &headers,
        "application/json",
        &etag,
        cache,
        CachedBody::PlainAndGzip(&json, None),
    ))
}

pub async fn entries(SaleRoom { room, .. }: SaleRoom, headers: HeaderMap) -> HandlerResult {
    let list = room.draw_leaves().ok_or_else(|| Problem::new(Kind::NotFound))?;
    let list = list.map_err(|()| Problem::new(Kind::Overloaded).retry_after_s(10))?;
    let packed = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("application/octet-stream"));
    let etag = format!("\"{}{}\"", list.root, if packed { "-packed" } else { "" });
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains(&etag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        leaves_response(list, packed)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(DRAWN_CACHE));
    out.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn leaves_response(list: DrawLeaves, packed: bool) -> Response {
    let (entries, root) = (list.entries, list.root);
    let body = if packed {
        Body::from_stream(list.into_stream().map(|leaves| {
            let bytes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
            Ok::<_, std::convert::Infallible>(Bytes::from(bytes))
        }))
    } else {
        let head = format!("{{\"entries\":{entries},\"root\":\"{root}\",\"leaves\":[");
        let parts = list.into_stream().enumerate().map(|(part, leaves)| {
            let texts: Vec<String> = leaves.iter().map(|leaf| format!("\"{leaf}\"")).collect();
            format!("{}{}", if part > 0 { "," } else { "" }, texts.join(","))
        });
        let all = stream::iter([head])
            .chain(parts)
            .chain(stream::iter(["]}".to_owned()]));
        Body::from_stream(all.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text))))
    };
    let mut response = Response::new(body);
    let content_type = if packed {
        "application/octet-stream"
    } else {
        "application/json"
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub async fn receipt(placed: QueueHolder) -> HandlerResult {
    match placed.room.draw_receipt(&placed.token).await {
        Ok(receipt) => Ok(private_json(StatusCode::OK, &receipt)),
        Err(why) => {
            let detail = match why {
                ReceiptOutcome::NoDraw => "this sale has no draw",
                ReceiptOutcome::Unknown => "this place is not known here, or not yet",
            };
            Err(Problem::new(Kind::NotFound).detail(detail))
        }
    }
}
