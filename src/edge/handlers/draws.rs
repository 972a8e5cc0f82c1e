//! The fair draw's calls: what is published, the list of leaves, and a fan's own receipt.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::edge::handlers::{Answer, Form, private_json, shared};
use crate::{
    edge::{
        auth::extractors::{AtDoor, Placed},
        errors::problem::{Kind, Problem},
    },
    waiting_room::{DrawLeaves, ReceiptOutcome},
};

const UNDECIDED_CACHE: &str = "public, max-age=1";
const DRAWN_CACHE: &str = "public, max-age=3600";

#[utoipa::path(get, path = "/v1/sales/{sale}/draw", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "commitment, algorithm, beacon and planned round; then entries and root; then beacon, seed, draw seed and order"), (status = 404, description = "the sale has no draw")))]
pub async fn draw(AtDoor { room, .. }: AtDoor, headers: HeaderMap) -> Answer {
    let published = room
        .published_draw()
        .ok_or_else(|| Problem::new(Kind::NotFound))?;
    let json = Bytes::from(serde_json::to_vec(&published).expect("what is published is JSON"));
    let step = u8::from(published.entries.is_some()) + u8::from(published.seed.is_some());
    let etag = format!("\"{}-{step}\"", published.commitment);
    let cache = if published.seed.is_some() {
        DRAWN_CACHE
    } else {
        UNDECIDED_CACHE
    };
    Ok(shared(
        &headers,
        "application/json",
        &etag,
        cache,
        Form::Both(&json, None),
    ))
}

#[utoipa::path(get, path = "/v1/sales/{sale}/draw/entries", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "the leaves of all entries in order of arrival: JSON `{entries, root, leaves}`, or 32 bytes each for `Accept: application/octet-stream`"), (status = 404, description = "not closed yet"), (status = 503)))]
pub async fn entries(AtDoor { room, .. }: AtDoor, headers: HeaderMap) -> Answer {
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
        whole_list(list, packed)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(DRAWN_CACHE));
    out.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn whole_list(list: DrawLeaves, packed: bool) -> Response {
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

#[utoipa::path(get, path = "/v1/sales/{sale}/draw/receipt", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "for the holder of the queue token, as soon as she has it: arrival, nonce, leaf, and her group with its signature and path; then entries, root and path; then her number"), (status = 401), (status = 404, description = "the sale has no draw, or the place is not known yet")))]
pub async fn receipt(placed: Placed) -> Answer {
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
