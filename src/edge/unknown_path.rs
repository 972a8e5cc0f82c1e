//! Addresses without an endpoint: people write a slash too many, or the name of an index.

use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, Uri};

use crate::edge::{
    errors::problem::{Problem, ProblemType},
    handlers::html::with_query,
    routes,
};

/// Any address without an endpoint: to the endpoint that it means, else 404.
pub(crate) async fn not_found(method: Method, uri: Uri) -> Response {
    match canonical_path(&method, uri.path()) {
        // The method and the body stay the same.
        Some(path) => Redirect::permanent(&with_query(&path, &uri)).into_response(),
        None => Problem::new(ProblemType::NotFound).into_response(),
    }
}

/// The path of an endpoint that people wrote with a slash too many, or with the name of an index.
fn canonical_path(method: &Method, path: &str) -> Option<String> {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments
        .last()
        .is_some_and(|last| ["index.html", "index.htm"].contains(last))
    {
        segments.pop();
    }
    // All sales are listed on the start page.
    if segments == ["sales"] {
        segments.clear();
    }
    let canonical = format!("/{}", segments.join("/"));
    // Programs write addresses as they are documented.
    let is_page = !canonical.starts_with("/v1/");
    (is_page && canonical != path && routes::find(method, &canonical).is_some()).then_some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_slashes_too_many_leads_to_its_endpoint() {
        for (path, expected) in [
            ("/sales/a/", Some("/sales/a")),
            ("//sales//a", Some("/sales/a")),
            ("/sales/a/seats///", Some("/sales/a/seats")),
            ("/v1/sales/a/status/", None),
            ("/sales", Some("/")),
            ("/sales/", Some("/")),
            ("/index.html", Some("/")),
            ("//", Some("/")),
            ("/sales/a", None),
            ("/nothing/", None),
            ("//evil.example/", None),
            ("//evil.example/%2f..", None),
        ] {
            assert_eq!(canonical_path(&Method::GET, path).as_deref(), expected, "{path}");
        }
        assert_eq!(canonical_path(&Method::POST, "/sales/a/"), None);
    }
}
