//! Reads the crate's sources: files with comments and texts blanked out, and what each file imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A source file of `src/`.
pub struct Source {
    /// Path below `src/`, with `/` between folders.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The text with comments and the insides of string literals blanked out; same length and lines.
    pub code: String,
}

/// All files of `src/`, sorted by path.
pub fn sources() -> Vec<Source> {
    let root = root().join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 100, "the sources were not found");
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let path = file
        .strip_prefix(root)
        .unwrap()
        .to_str()
        .unwrap()
        .replace('\\', "/");
    Source {
        path,
        code: blank(&text),
        text,
    }
}

/// Every `.rs` file below a folder.
pub fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether a file holds tests only.
pub fn is_test_file(path: &str) -> bool {
    let tests = [
        "/tests.rs",
        "/tests/",
        "conformance.rs",
        "/conformance/",
        "/reference_model.rs",
        "/model_check.rs",
        "/fixture.rs",
    ];
    tests.iter().any(|part| path.contains(part))
}

/// A text with comments and string contents replaced by blanks.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        let (from, upto) = match bytes[at] {
            b'/' if end > at + 1 => (at, end),
            b'"' | b'r' | b'b' | b'\'' if end > at + 1 => (at + 1, end - 1),
            _ => (at, at),
        };
        for byte in &mut out[from..upto] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole tokens are blanked")
}

/// Where the comment or literal that starts at `at` ends; `at + 1` for anything else.
fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + find(rest, b"*/").map_or(rest.len(), |found| found + 2);
    }
    if !inside_word && (rest[0] == b'r' || rest.starts_with(b"br")) {
        let prefix = if rest[0] == b'b' { 2 } else { 1 };
        let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let from = prefix + hashes + 1;
            return at + find(&rest[from..], &close).map_or(rest.len(), |found| from + found + close.len());
        }
    }
    match rest[0] {
        b'"' => at + quoted(rest, b'"'),
        b'\'' if is_char(rest) => at + quoted(rest, b'\''),
        _ => at + 1,
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

/// Whether a quote opens a character and not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .map_or_else(|error| error.valid_up_to(), str::len)
        .min(rest.len() - 1);
    let first = std::str::from_utf8(&rest[1..=width])
        .ok()
        .and_then(|text| text.chars().next());
    rest.get(1) == Some(&b'\\') || first.is_some_and(|c| rest.get(1 + c.len_utf8()) == Some(&b'\''))
}

/// The length of a literal that opens with a quote, its end quote included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The code before a file's unit tests; nothing of a test file.
pub fn product_code(source: &Source) -> &str {
    if is_test_file(&source.path) {
        return "";
    }
    let tests = source.code.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let next = source.code[at + attribute.len()..].trim_start();
        next.starts_with("mod ")
            && next
                .lines()
                .next()
                .is_some_and(|line| line.trim_end().ends_with('{'))
    });
    tests.map_or(&source.code, |(at, _)| &source.code[..at])
}

/// The files of `src/` and which of each other they import, by `use` or by an inline `crate::` or `super::`
/// path.
///
/// A name is followed to the file of the longest module path that exists, so a re-export counts as its
/// facade's file.
pub fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<Vec<&str>, &str> = sources
        .iter()
        .filter(|source| !is_test_file(&source.path) && source.path != "main.rs")
        .filter(|source| !source.path.starts_with("cli/"))
        .map(|source| (module_path(&source.path), source.path.as_str()))
        .collect();
    let of_one = |(module, path): (&Vec<&str>, &&str)| {
        let source = sources.iter().find(|source| source.path == *path).unwrap();
        let named = named_paths(product_code(source));
        let files = named.iter().filter_map(|name| file_of(name, module, &modules));
        (
            path.to_string(),
            files.filter(|file| file != path).map(str::to_owned).collect(),
        )
    };
    modules.iter().map(of_one).collect()
}

fn module_path(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "lib"))) {
        parts.pop();
    }
    parts
}

/// The file that a path leads to, seen from `module`.
fn file_of<'a>(name: &[String], module: &[&str], modules: &BTreeMap<Vec<&str>, &'a str>) -> Option<&'a str> {
    let mut base: Vec<&str> = module.to_vec();
    let mut parts = name.iter().map(String::as_str).peekable();
    match *parts.peek()? {
        "crate" => {
            base.clear();
            parts.next();
        }
        "self" => {
            parts.next();
        }
        "super" => {}
        child => {
            let mut path = base.clone();
            path.push(child);
            modules.get(&path)?;
        }
    }
    while parts.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(parts);
    (0..=base.len())
        .rev()
        .find_map(|length| modules.get(&base[..length]).copied())
}

/// Every path that a text imports or writes out from `crate`, `self` or `super`.
pub fn named_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let lines: Vec<&str> = statement.lines().collect();
        let declared = lines.iter().rposition(|line| {
            let line = line.trim_start();
            line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ")
        });
        if let Some(line) = declared {
            let text = lines[line..].join(" ");
            let tree = text.split_once("use ").map_or("", |(_, tree)| tree);
            leaves(tree.trim(), &[], &mut paths);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code
            .match_indices(start)
            .filter(|(at, _)| !code[..*at].ends_with("::"))
        {
            let path: String = code[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                .collect();
            // A path that ends in `::` opens a group, which was read as part of its `use`.
            if !path.ends_with("::") {
                paths.push(path.split("::").map(str::to_owned).collect());
            }
        }
    }
    paths
}

/// The leaves of a `use` tree.
fn leaves(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    if let Some(inner) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let mut depth = 0;
        let parts = inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        parts
            .filter(|part| !part.trim().is_empty())
            .for_each(|part| leaves(part, before, paths));
        return;
    }
    let (first, rest) = tree.split_once("::").unwrap_or((tree, ""));
    let first = first.split_whitespace().next().unwrap_or_default();
    let mut path = before.to_vec();
    if first != "self" || before.is_empty() {
        path.push(first.to_owned());
    }
    if rest.is_empty() {
        paths.push(path);
    } else {
        leaves(rest, &path, paths);
    }
}

/// Groups of files that import each other in a circle, largest first.
pub fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports
        .keys()
        .map(|file| (file, reachable(file, imports)))
        .collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, others) in &reached {
        let circle: Vec<String> = others
            .iter()
            .filter(|other| reached[**other].contains(*file))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let mut circles: Vec<Vec<String>> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// The files that are reached from one by following imports, itself among them when a circle leads back.
fn reachable<'a>(from: &str, imports: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = imports[from].iter().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(&imports[file]);
        }
    }
    found
}
