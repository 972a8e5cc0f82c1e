//! The deployed files of nginx agree with the table of routes and with each other.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use super::{FastPath, Handler, ROUTES};

const OWN_HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy/nginx.conf");
const UNDER_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy/under-path");

/// A file in three parts: until the line `# BEGIN name`, between the marks, and from the line `# END name`.
fn parts<'a>(text: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let line_after = |mark: &str| {
        let at = text.find(mark).unwrap_or_else(|| panic!("no {mark}"));
        at + text[at..].find('\n').unwrap() + 1
    };
    let begin = line_after(&format!("# BEGIN {name}\n"));
    let end = text.find(&format!("# END {name}\n")).unwrap();
    let end = text[..end].rfind('\n').unwrap() + 1;
    (&text[..begin], &text[begin..end], &text[end..])
}

/// Holds the marked part of a file against what it must be, or writes it.
fn compare(file: &str, name: &str, generated: &str) {
    let text = fs::read_to_string(file).unwrap();
    let (before, deployed, after) = parts(&text, name);
    if std::env::var_os("STAGEDOOR_UPDATE_GENERATED").is_some() {
        fs::write(file, [before, generated, after].concat()).unwrap();
    } else {
        assert!(
            deployed == generated,
            "{name}: run this test with STAGEDOOR_UPDATE_GENERATED=1 to update {file}"
        );
    }
}

/// The regular expression of a route's path below `root`.
fn pattern(root: &str, path: &str) -> String {
    let parts = path.split('/');
    let parts = parts.map(|part| if part.starts_with('{') { "[^/]+" } else { part });
    format!("^{root}{}$", parts.collect::<Vec<_>>().join("/"))
}

/// One location, indented like its file.
fn location(indent: &str, pattern: &str, upstream: &str, is_event_stream: bool) -> String {
    let mut text = format!("{indent}location ~ {pattern} {{\n{indent}    proxy_pass http://{upstream};\n");
    if is_event_stream {
        let _ = write!(
            text,
            "{indent}    proxy_buffering off;\n{indent}    proxy_read_timeout 60s;\n"
        );
    }
    text + indent + "}\n"
}

/// The locations for what the box office serves and for event streams. All else goes to the waiting room.
fn locations_by_role() -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for route in ROUTES {
        let is_box_office = matches!(route.handler, Handler::BoxOffice(_));
        if !(is_box_office || route.is_event_stream) || !seen.insert(route.path) {
            continue;
        }
        let upstream = if is_box_office {
            "box_office"
        } else {
            "waiting_room"
        };
        text += &location(
            "        ",
            &pattern("", route.path),
            upstream,
            route.is_event_stream,
        );
    }
    text
}

#[test]
fn the_balancer_sends_each_route_to_its_role() {
    compare(OWN_HOST, "ROUTES", &locations_by_role());
    // The status is cached in front of the nodes, in a location of its own.
    let status = ROUTES
        .iter()
        .find(|route| route.fast_path == Some(FastPath::Status))
        .unwrap();
    let cached = format!("location ~ {} {{", pattern("", status.path));
    let text = fs::read_to_string(OWN_HOST).unwrap();
    assert!(parts(&text, "STATUS").1.contains(&cached), "{cached}");
}

/// A marked part of `nginx.conf` as the shop's nginx has it: less indented, below the path, and with names
/// that the shop's own configuration does not have.
fn under_path(name: &str) -> String {
    const VARIABLES: [&str; 9] = [
        "retry_after_s",
        "upstream_host",
        "error_format",
        "error_lang",
        "cookie_lang",
        "browser_lang",
        "chosen_lang",
        "error_retry_s",
        "error_refresh_s",
    ];
    let text = fs::read_to_string(OWN_HOST).unwrap();
    let lines = parts(&text, name).1.lines();
    let mut text: String = lines
        .map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n")
        .collect();
    for variable in VARIABLES {
        text = text.replace(&format!("${variable}"), &format!("$stagedoor_{variable}"));
    }
    text.replace("?<chosen_lang>", "?<stagedoor_chosen_lang>")
        .replace("http://waiting_room", "http://stagedoor")
        .replace("proxy_cache queue_status", "proxy_cache stagedoor_status")
        .replace("~ ^/v1/", "~ ^/tickets/v1/")
        .replace(" /errors/", " /tickets/errors/")
        .replace("root /etc/stagedoor;", "alias /etc/stagedoor/errors/;")
}

#[test]
fn the_files_for_a_path_repeat_those_for_a_host() {
    compare(&format!("{UNDER_PATH}/http.conf"), "MAPS", &under_path("MAPS"));
    let locations = format!("{UNDER_PATH}/locations.conf");
    for name in ["PROXY", "STATUS", "ERRORS"] {
        compare(&locations, name, &under_path(name));
    }
    // All nodes have all roles there, so only event streams differ.
    let streams = ROUTES.iter().filter(|route| route.is_event_stream);
    let streams = streams.map(|route| location("    ", &pattern("/tickets", route.path), "stagedoor", true));
    compare(&locations, "ROUTES", &streams.collect::<String>());
}
