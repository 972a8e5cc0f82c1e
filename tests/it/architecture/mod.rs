//! Reads the sources and keeps the rules of structure: who may name whom, where technique may stand, how
//! files are cut, which names are retired. A broken rule names the file.

mod names;
mod source;

use std::collections::BTreeMap;

use self::source::{Source, circles, collect, imports, named_paths, product_code, root, sources};

/// Each module with those of the crate that it may name, itself apart.
const MAY_NAME: [(&str, &[&str]); 13] = [
    ("kernel", &[]),
    ("platform", &["kernel"]),
    ("waiting_room", &["kernel", "platform"]),
    ("seating", &["kernel", "platform"]),
    ("shop", &["kernel", "platform"]),
    ("checkout", &["kernel", "platform", "seating"]),
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
    ("simulate", &["kernel", "waiting_room"]),
    ("audit", &["kernel", "platform"]),
    ("demo", &["kernel", "platform"]),
    (
        "app",
        &[
            "kernel",
            "platform",
            "waiting_room",
            "seating",
            "shop",
            "checkout",
            "edge",
            "ops",
            "simulate",
            "audit",
            "demo",
        ],
    ),
    ("guide", &[]),
];

/// Files that may name one module more, each with its reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    // What clients were told becomes evidence for the auditor.
    ("demo/client/observations.rs", "audit"),
    // The sandbox gateway signs its webhooks as the payment port defines them.
    ("demo/sandbox_gateway", "checkout"),
];

/// The floors of a context from the ground up: a file names only what stands on its own floor or below.
/// In the other contexts floors hold between files, not between folders: the circle rule covers them.
const FLOORS: [(&str, &[&str]); 1] = [(
    "seating",
    &[
        "gzip seat types",
        "hold plan",
        "allocation store",
        "pricing request_hash",
        "availability",
        "performance",
        "background hold_requests",
        "service",
        "mod",
    ],
)];

/// The share of files, in percent, that may be longer than [`LONG_FILE`] lines.
const LONG_FILES_PERCENT_MAX: usize = 5;
const LONG_FILE: usize = 400;
const LINE_WIDTH_MAX: usize = 110;

fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The crate's modules that a file names by an absolute path.
fn named_modules(source: &Source) -> Vec<String> {
    let paths = named_paths(product_code(source)).into_iter();
    paths
        .filter(|path| path[0] == "crate")
        .filter_map(|path| path.get(1).cloned())
        .collect()
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{}", broken.join("\n"));
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
        for named in named_modules(&source) {
            let is_module = MAY_NAME.iter().any(|(name, _)| *name == named);
            let is_exception = EXCEPTIONS
                .iter()
                .any(|(path, other)| source.path.starts_with(path) && named == *other);
            seen += usize::from(is_module);
            if is_module && named != module && !allowed.contains(&named.as_str()) && !is_exception {
                broken.push(format!("src/{}: {module} must not name {named}", source.path));
            }
        }
    }
    assert!(
        seen > 200,
        "only {seen} names were found: the reader of sources is broken"
    );
    assert_none(&broken);
}

#[test]
fn the_reader_finds_what_a_line_names() {
    let named = |text: &str| {
        let code = source::blank(text);
        named_modules(&Source {
            path: "seating/x.rs".into(),
            text: text.into(),
            code,
        })
    };
    assert_eq!(
        named("use crate::waiting_room::Pass;"),
        ["waiting_room", "waiting_room"]
    );
    let group = "use crate::{\n    kernel::{Clock, Money},\n    shop,\n    edge::problem,\n};\nlet app = 1;";
    assert_eq!(named(group), ["kernel", "kernel", "shop", "edge"]);
    assert_eq!(named("let x = crate::ops::config(); // crate::shop"), ["ops"]);
    assert!(named("let x = \"crate::shop::y\"; /* crate::edge::z */").is_empty());
    assert_eq!(
        source::blank("let a = \"http://x\"; // b"),
        "let a = \"        \";     "
    );
    assert_eq!(source::blank("'a' 'b \"c\" r#\"d\"#"), "' ' 'b \" \" r    #");
}

#[test]
fn no_circle_of_imports_crosses_a_folder_or_has_more_than_three_files() {
    let sources = sources();
    let imports = imports(&sources);
    let edges: usize = imports.values().map(std::collections::BTreeSet::len).sum();
    assert!(
        edges > 500,
        "only {edges} imports were found: the reader of sources is broken"
    );
    let folder = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let broken: Vec<String> = circles(&imports)
        .iter()
        .filter(|circle| circle.len() > 3 || circle.iter().any(|file| folder(file) != folder(&circle[0])))
        .map(|circle| {
            format!(
                "{} files import each other in a circle: {}",
                circle.len(),
                circle.join(", ")
            )
        })
        .collect();
    assert_none(&broken);
}

#[test]
fn a_circle_of_imports_is_found() {
    let file = |path: &str, code: &str| Source {
        path: path.into(),
        text: code.into(),
        code: code.into(),
    };
    let sources = [
        file("a.rs", "use crate::b::{B, c::C};"),
        file("b/mod.rs", "mod c;\npub use c::C;"),
        file("b/c.rs", "use super::B;\nfn f() -> crate::d::D {}"),
        file("d.rs", "fn g() {}"),
    ];
    assert_eq!(circles(&imports(&sources)), [["b/c.rs", "b/mod.rs"]]);
}

#[test]
fn a_file_names_only_its_own_floor_and_those_below() {
    let sources = sources();
    let imports = imports(&sources);
    let mut broken = Vec::new();
    for (context, floors) in FLOORS {
        let floor = |file: &str| {
            let inside = file.strip_prefix(context)?.strip_prefix('/')?;
            let name = inside.split('/').next().unwrap().trim_end_matches(".rs");
            let found = floors
                .iter()
                .position(|floor| floor.split(' ').any(|member| member == name));
            found.or_else(|| panic!("{file} has no floor in FLOORS"))
        };
        for (file, named) in imports.iter().filter(|(file, _)| floor(file).is_some()) {
            for other in named.iter().filter(|other| floor(other) > floor(file)) {
                broken.push(format!("src/{file} names {other}, which stands above it"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn few_files_are_long_and_no_line_is_wide() {
    let sources = sources();
    let lines: BTreeMap<&str, usize> = sources
        .iter()
        .map(|source| (source.path.as_str(), source.text.lines().count()))
        .collect();
    let long: Vec<_> = lines.iter().filter(|(_, lines)| **lines > LONG_FILE).collect();
    let (longest, most) = lines.iter().max_by_key(|(_, lines)| **lines).unwrap();
    println!(
        "{} files, longest {longest} with {most} lines, {} above {LONG_FILE}",
        lines.len(),
        long.len()
    );
    assert!(
        long.len() * 100 <= lines.len() * LONG_FILES_PERCENT_MAX,
        "{} of {} files have more than {LONG_FILE} lines: {long:?}",
        long.len(),
        lines.len()
    );
    let mut broken = Vec::new();
    for source in &sources {
        let wide = source
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.chars().count() > LINE_WIDTH_MAX);
        broken.extend(wide.map(|(number, _)| format!("src/{}:{}: too wide", source.path, number + 1)));
    }
    assert_none(&broken);
}

#[test]
fn technique_stays_where_it_belongs() {
    // A crate or type, and where it may stand.
    type Rule = (&'static str, fn(&str) -> bool);
    let rules: [Rule; 9] = [
        ("axum", |path| {
            ["edge", "ops", "app", "demo"].contains(&module_of(path))
        }),
        ("tower", |path| ["edge", "ops", "app"].contains(&module_of(path))),
        // A wire type derives its schema where it is; the documents are built at the edge.
        ("utoipa", |path| {
            ["edge", "ops", "checkout", "seating", "waiting_room", "platform"].contains(&module_of(path))
        }),
        ("sqlx", |path| {
            let places = [
                "platform/sql",
                // The keys' own table, where nodes share them.
                "platform/keys",
                "checkout/ledger",
                "shop/",
                "waiting_room/journal",
                "demo/sandbox_gateway",
                "audit/",
            ];
            places.iter().any(|place| path.starts_with(place))
        }),
        ("::redis", |path| {
            path.starts_with("platform/redis") || path.contains("/store/redis")
        }),
        // The edge's is the runtime's own, for the timers of a connection.
        ("Instant", |path| {
            path == "kernel/clock.rs" || path == "edge/connection/timeouts.rs"
        }),
        ("SystemTime", |path| path == "kernel/clock.rs"),
        ("OsEntropy", |path| {
            ["kernel", "app", "main", "cli"].contains(&module_of(path))
        }),
        ("rand_chacha", |path| path == "kernel/rng.rs"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        let is_context = ["waiting_room", "seating", "shop"].contains(&module_of(&source.path));
        for (number, line) in product_code(&source).lines().enumerate() {
            if is_context && names(line, "http") && line.contains("http::") {
                broken.push(format!(
                    "src/{}:{}: a context knows no HTTP",
                    source.path,
                    number + 1
                ));
            }
            for (word, allowed) in rules {
                if names(line, word) && !allowed(&source.path) {
                    broken.push(format!(
                        "src/{}:{}: {word} has no place here",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none(&broken);
}

/// Whether a line names `word` as a whole word.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next())
    })
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
    ]
    .map(|[a, b]| format!("{a}{b}"));
    let mut files = Vec::new();
    for folder in ["src", "tests/it", "tests/testkit/src", "loadtest/src", "benches"] {
        collect(&root().join(folder), &mut files);
    }
    let mut broken = Vec::new();
    for file in files {
        let code = source::blank(&std::fs::read_to_string(&file).unwrap());
        for (number, line) in code.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word.as_str())) {
                broken.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn the_table_in_lib_rs_lists_every_module() {
    let src = root().join("src");
    let table = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    for entry in std::fs::read_dir(&src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        if ["lib", "main", "cli"].contains(&module) {
            continue;
        }
        assert!(
            table.contains(&format!("| [`{module}`] |")),
            "lib.rs has no line for {module}"
        );
        assert!(
            table.contains(&format!("pub mod {module};")),
            "lib.rs does not declare {module}"
        );
    }
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for source in sources() {
        for vague in ["utils", "util", "helpers", "common", "manager", "misc"] {
            let mut parts = source.path.trim_end_matches(".rs").split('/');
            assert!(
                parts.all(|part| part != vague),
                "src/{} says nothing by its name",
                source.path
            );
        }
    }
}
