//! Reads the sources and keeps the rules of who may name whom. A rule that is broken names the file and the line.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path below `src/` and its lines, comments blanked out.
struct Source {
    path: String,
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "the sources were found");
    files
        .into_iter()
        .map(|file| Source {
            path: file
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/"),
            lines: fs::read_to_string(&file)
                .unwrap()
                .lines()
                .map(without_comment)
                .collect(),
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The line without its comment. A `//` inside a text, as in an address, follows a colon and stays.
fn without_comment(line: &str) -> String {
    let comment = line
        .match_indices("//")
        .find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at]).to_owned()
}

/// Whether the line names `word` as a whole word.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next())
    })
}

/// Which of the crate's modules a `use crate::...` group or a path names; groups may go over several lines.
///
/// A test may set up more of the house than its subject knows, so unit tests are not read.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut depth_in_group: Option<i32> = None;
    for (number, line) in product_lines(source) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            if rest.starts_with('{') {
                depth_in_group = Some(0);
            } else {
                let module: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                found.push((number, module));
            }
        }
        let Some(depth) = &mut depth_in_group else {
            continue;
        };
        let from = line.find("crate::{").map_or(0, |at| at + "crate::".len());
        let mut word = String::new();
        for c in line[from..].chars() {
            match c {
                '{' => *depth += 1,
                '}' => *depth -= 1,
                _ => {}
            }
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
            } else {
                // Directly inside the group's outermost braces stand the modules; deeper, their items.
                let outermost = *depth == 1 || (c == '{' && *depth == 2) || (c == '}' && *depth == 0);
                if !word.is_empty() && outermost {
                    found.push((number, word.clone()));
                }
                word.clear();
            }
        }
        if *depth <= 0 {
            depth_in_group = None;
        }
    }
    let modules = MAY_NAME.map(|(module, _)| module);
    found.retain(|(_, module)| modules.contains(&module.as_str()));
    found
}

/// Each module with those of the crate that it may name, itself apart.
const MAY_NAME: [(&str, &[&str]); 10] = [
    ("kernel", &[]),
    ("platform", &["kernel"]),
    ("waiting_room", &["kernel", "platform"]),
    ("seating", &["kernel", "platform"]),
    ("shop", &["kernel", "platform"]),
    ("checkout", &["kernel", "platform", "seating"]),
    ("simulation", &["kernel", "platform"]),
    (
        "edge",
        &[
            "kernel",
            "platform",
            "waiting_room",
            "seating",
            "shop",
            "checkout",
        ],
    ),
    (
        "ops",
        &[
            "kernel",
            "platform",
            "waiting_room",
            "seating",
            "shop",
            "checkout",
            "edge",
        ],
    ),
    (
        "app",
        &[
            "kernel",
            "platform",
            "waiting_room",
            "seating",
            "shop",
            "checkout",
            "simulation",
            "edge",
            "ops",
        ],
    ),
];

/// Files that may name one module more, each with its reason.
const EXCEPTIONS: [(&str, &str); 1] = [
    // The sandbox gateway signs its webhooks as the payment port defines them.
    ("simulation/sandbox_gateway", "checkout"),
];

fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn each_module_names_only_those_it_may() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let module = module_of(&source.path);
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for (line, named) in named_modules(&source) {
            seen += 1;
            let is_exception = EXCEPTIONS
                .iter()
                .any(|(path, other)| source.path.starts_with(path) && named == *other);
            if named != module && !allowed.contains(&named.as_str()) && !is_exception {
                broken.push(format!(
                    "src/{}:{line}: {module} must not name {named}",
                    source.path
                ));
            }
        }
    }
    assert!(
        seen > 15,
        "only {seen} names were found: the reader of sources is broken"
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_reader_sees_what_a_forbidden_line_names() {
    let source = |text: &str| Source {
        path: "seating/x.rs".into(),
        lines: text.lines().map(without_comment).collect(),
    };
    let modules = |text: &str| {
        named_modules(&source(text))
            .into_iter()
            .map(|(_, m)| m)
            .collect::<Vec<_>>()
    };
    assert_eq!(modules("use crate::waiting_room::Pass;"), ["waiting_room"]);
    assert_eq!(
        modules("use crate::{\n    kernel::{Clock, Money},\n    shop,\n    edge::problem,\n};\nlet app = 1;"),
        ["kernel", "shop", "edge"]
    );
    assert_eq!(
        modules("use crate::{kernel::Clock, checkout::Order};"),
        ["kernel", "checkout"]
    );
    assert_eq!(modules("let x = crate::ops::config(); // crate::shop"), ["ops"]);
    assert_eq!(
        without_comment("let a = \"http://x\"; // b"),
        "let a = \"http://x\"; "
    );
    assert!(names("use sqlx::Row;", "sqlx") && !names("let sqlx_like = 1;", "sqlx"));
}

#[test]
fn technique_stays_where_it_belongs() {
    // A word, and where it may stand.
    type Rule = (&'static str, fn(&str) -> bool);
    let at_the_rim: fn(&str) -> bool = |path| {
        ["edge", "ops", "app", "main"].contains(&module_of(path)) || path.starts_with("simulation/sandbox_")
    };
    let rules: [Rule; 9] = [
        ("axum", at_the_rim),
        ("tower", |path| ["edge", "ops", "app"].contains(&module_of(path))),
        ("utoipa", |path| ["edge", "ops"].contains(&module_of(path))),
        ("sqlx", |path| {
            let places = [
                "platform/sql",
                // The keys' own table, where nodes share them.
                "platform/keys",
                "checkout/ledger",
                "shop/",
                "waiting_room/journal",
                "simulation/sandbox_gateway",
                "simulation/auditor/books",
                // A server is up when it answers a query, and its databases are made by statements.
                "simulation/servers/postgres.rs",
            ];
            places.iter().any(|place| path.starts_with(place))
        }),
        // Settings are named after it, and the composition root hands it on; neither speaks to it.
        ("redis", |path| {
            let is_named =
                path.starts_with("ops/config") || module_of(path) == "app" || path == "platform/mod.rs";
            let places = ["platform/redis", "simulation/servers/redis"];
            let speaks = places.iter().any(|place| path.starts_with(place))
                || path.ends_with("/redis.rs")
                || path.contains("/store/redis/");
            is_named || speaks
        }),
        // The edge's is the runtime's own, for the timers of a connection.
        ("Instant", |path| {
            path == "kernel/clock.rs" || path == "edge/patience.rs"
        }),
        ("SystemTime", |path| path == "kernel/clock.rs"),
        ("OsEntropy", |path| {
            path.starts_with("kernel/") || ["app", "main"].contains(&module_of(path))
        }),
        ("rand_chacha", |path| path == "kernel/random.rs"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in product_lines(&source) {
            let is_context = ["waiting_room", "seating", "shop"].contains(&module_of(&source.path));
            if is_context && line.contains("http::") {
                broken.push(format!(
                    "src/{}:{number}: a context knows no HTTP: {}",
                    source.path,
                    line.trim()
                ));
            }
            for (word, allowed) in rules {
                if names(line, word) && !allowed(&source.path) && !(word == "redis" && is_own_redis(line)) {
                    broken.push(format!(
                        "src/{}:{number}: {word} has no place here: {}",
                        source.path,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The house has modules and settings named like the driver; whoever wires them names them by where they are.
fn is_own_redis(line: &str) -> bool {
    let own = ["platform::", "self::", "store::", "servers::"];
    line.match_indices("redis").all(|(at, word)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let is_path = after.starts_with("::") || before.trim_end().ends_with("use");
        !is_path
            || own
                .iter()
                .any(|place| before.ends_with(place) || before.contains(&format!("{place}{{")))
    })
}

#[test]
fn the_driver_is_told_from_the_houses_own_modules() {
    for own in [
        "mod redis;",
        "use crate::platform::redis::Redis;",
        "platform::{shutdown::Lifecycle, redis::Redis},",
        "pub redis: Settings,",
    ] {
        assert!(is_own_redis(own), "{own}");
    }
    for driver in [
        "use redis::Client;",
        "let cmd = redis::cmd(\"GET\");",
        "use redis as driver;",
    ] {
        assert!(!is_own_redis(driver), "{driver}");
    }
}

/// The lines before a file's unit tests; none of a file of tests.
fn product_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let is_tests = source.path.ends_with("/tests.rs")
        || source.path.ends_with("/contract.rs")
        || source.path.contains("/tests/");
    let end = if is_tests {
        0
    } else {
        source
            .lines
            .iter()
            .position(|line| line.trim() == "#[cfg(test)]")
            .map_or(source.lines.len(), |at| tests_from(source, at))
    };
    source.lines[..end]
        .iter()
        .enumerate()
        .map(|(n, line)| (n + 1, line.as_str()))
}

/// Where the unit tests begin when a `#[cfg(test)]` stands at `at`: a single attributed item does not end the product.
fn tests_from(source: &Source, at: usize) -> usize {
    let opens_module = |n: usize| {
        source
            .lines
            .get(n + 1)
            .is_some_and(|next| next.trim_end().ends_with('{') && names(next, "mod"))
    };
    (at..source.lines.len())
        .find(|&n| source.lines[n].trim() == "#[cfg(test)]" && opens_module(n))
        .unwrap_or(source.lines.len())
}

#[test]
fn nothing_is_left_undone_skipped_or_silenced() {
    // Put together here, so that this file does not hold what it looks for.
    let forbidden = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["#[ig", "nore"],
        ["#[al", "low("],
        ["#![al", "low("],
        ["dbg", "!("],
    ]
    .map(|[a, b]| format!("{a}{b}"));
    let mut broken = Vec::new();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    collect(&tests.join("it"), &mut files);
    let tests = files.into_iter().map(|file| Source {
        path: file.display().to_string(),
        lines: fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(without_comment)
            .collect(),
    });
    for source in sources().into_iter().chain(tests) {
        for (number, line) in source.lines.iter().enumerate() {
            for word in &forbidden {
                if line.contains(word.as_str()) {
                    broken.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_map_in_lib_rs_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        assert!(
            map.contains(&format!("| [`{module}`] |")),
            "lib.rs has no line for {module}"
        );
        assert!(
            map.contains(&format!("pub mod {module};")),
            "lib.rs does not declare {module}"
        );
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for source in sources() {
        for vague in ["utils", "util", "helpers", "common", "manager", "misc"] {
            let parts = source.path.trim_end_matches(".rs").split('/');
            assert!(
                !parts.clone().any(|part| part == vague),
                "src/{} says nothing by its name",
                source.path
            );
        }
    }
}
