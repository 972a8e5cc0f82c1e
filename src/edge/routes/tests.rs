//! Tests that hold every consumer of the table against it.

use std::{collections::BTreeSet, sync::Arc};

use axum::Router;

use super::*;

mod nginx;

/// A path of this route, with `x` for each parameter.
fn sample_path(route: &Route<Handler>) -> String {
    let segments = route.path.split('/');
    segments
        .map(|segment| if segment.starts_with('{') { "x" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

fn priority(method: &Method, path: &str) -> Option<Priority> {
    find(method, path).map(|route| route.priority)
}

#[test]
fn the_router_takes_every_row() {
    let mut shared = Router::<Arc<AppState>>::new();
    let mut waiting_room = Router::<WaitingRoomState>::new();
    let mut box_office = Router::<BoxOfficeState>::new();
    for route in ROUTES {
        let method = MethodFilter::try_from(route.method.clone()).unwrap();
        match route.handler {
            Handler::Shared(bind) => shared = shared.route(route.path, bind(method)),
            Handler::WaitingRoom(bind) => waiting_room = waiting_room.route(route.path, bind(method)),
            Handler::BoxOffice(bind) => box_office = box_office.route(route.path, bind(method)),
        }
    }
    drop((shared, waiting_room, box_office));
    assert!(ROUTES.len() > 40);
}

#[test]
fn every_row_is_found_by_its_own_requests_only() {
    for route in ROUTES {
        let path = sample_path(route);
        let found = find(&route.method, &path).unwrap();
        assert!(std::ptr::eq(found, route), "{} {path}", route.method);
        if route.method == GET {
            assert!(
                std::ptr::eq(find(&Method::HEAD, &path).unwrap(), route),
                "HEAD {path}"
            );
        }
    }
    assert!(find(&POST, "/v1/sales").is_none(), "no such method");
    assert!(find(&GET, "/v1/nothing").is_none(), "no such path");
    assert!(find(&GET, "/v1/sales/s/status/").is_none(), "no such path");
}

#[test]
fn each_fast_path_has_one_row_in_a_sale() {
    for fast in [FastPath::Join, FastPath::Position, FastPath::Status] {
        let rows: Vec<_> = ROUTES
            .iter()
            .filter(|route| route.fast_path == Some(fast))
            .collect();
        let [route] = rows[..] else {
            panic!("{fast:?}: {rows:?}")
        };
        assert!(route.path.starts_with("/v1/sales/{sale}/"), "{}", route.path);
        let path = sample_path(route);
        let (found, sale, row) = fast_path(&route.method, &path).unwrap();
        assert_eq!((found, sale), (fast, "x"));
        assert!(std::ptr::eq(row, route));
    }
}

#[test]
fn operations_are_unique_and_cover_the_api() {
    let operations: BTreeSet<_> = ROUTES.iter().filter_map(|route| route.operation_id).collect();
    assert_eq!(
        operations.len(),
        ROUTES.iter().filter(|route| route.operation_id.is_some()).count()
    );
    for route in ROUTES {
        let is_api = route.path.starts_with("/v1/") || route.path.starts_with("/.well-known/");
        assert_eq!(route.operation_id.is_some(), is_api, "{}", route.path);
    }
}

#[test]
fn priorities_follow_money_visitors_queue_pages() {
    for (method, path, expected) in [
        (&POST, "/v1/webhooks/sandbox", Priority::Critical),
        (&POST, "/v1/orders/o-1/confirm", Priority::Critical),
        (&GET, "/v1/orders/o-1/return", Priority::Critical),
        (&GET, "/v1/sales/s/status", Priority::Critical),
        (&POST, "/v1/orders", Priority::Admitted),
        (&GET, "/v1/orders/o-1/tickets", Priority::Admitted),
        (&PATCH, "/v1/holds/h", Priority::Admitted),
        (&POST, "/v1/sales/s/performances/p/holds", Priority::Admitted),
        (
            &GET,
            "/v1/sales/s/performances/p/seats/events",
            Priority::Admitted,
        ),
        (&PUT, "/v1/sales/s/admission", Priority::Admitted),
        (&DELETE, "/v1/sales/s/admission", Priority::Admitted),
        (&GET, "/v1/forward-auth/s", Priority::Admitted),
        (&POST, "/v1/sales/s/admission", Priority::Entering),
        (&POST, "/v1/sales/s/queue", Priority::Queueing),
        (&GET, "/v1/sales/s/queue/position", Priority::Queueing),
        (&GET, "/v1/sales/s/status/events", Priority::Queueing),
        (&POST, "/v1/sign-in/handoff", Priority::Queueing),
        (&POST, "/v1/sign-in/return", Priority::Queueing),
        (&GET, "/v1/sales/s/performances/p/plan", Priority::Browsing),
        (&GET, "/v1/sales/s", Priority::Browsing),
        (&GET, "/sales/s", Priority::Browsing),
        (&GET, "/assets/app.js", Priority::Browsing),
        (&GET, "/", Priority::Browsing),
    ] {
        assert_eq!(priority(method, path), Some(expected), "{method} {path}");
    }
}

#[test]
fn only_calls_of_the_box_office_count_for_its_health() {
    for (path, expected) in [
        ("/v1/sales/a/performances/b/seats", Some(Subsystem::Seats)),
        ("/v1/holds/x", Some(Subsystem::Seats)),
        ("/v1/orders", Some(Subsystem::Orders)),
        ("/v1/sales/a/performances/b/plan", None),
        ("/v1/sales/a/status", None),
        ("/v1/sales/a/admission", None),
    ] {
        let routes = ROUTES.iter().filter(|route| serves(route, path));
        for route in routes {
            assert_eq!(route.subsystem, expected, "{} {path}", route.method);
        }
    }
    for route in ROUTES {
        assert!(
            route.subsystem.is_none() || matches!(route.handler, Handler::BoxOffice(_)),
            "{}: the counters are the box office's",
            route.path
        );
    }
}

/// Whether `route` serves `path`.
fn serves(route: &Route<Handler>, path: &str) -> bool {
    find(&route.method, path).is_some_and(|found| std::ptr::eq(found, route))
}

#[test]
fn only_timed_calls_of_admitted_visitors_count_as_late() {
    for route in ROUTES {
        assert!(
            !route.is_timed || route.priority == Priority::Admitted,
            "{}",
            route.path
        );
    }
    assert!(
        !find(&POST, "/v1/orders").unwrap().is_timed,
        "it waits for the payment gateway"
    );
    assert!(find(&GET, "/v1/orders").unwrap().is_timed);
}
