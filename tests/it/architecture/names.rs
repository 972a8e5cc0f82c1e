//! Keeps retired names out. `tests/retired_names.txt` lists them as exact patterns with the paths that may
//! hold them.

use std::fs;

use super::source::root;

const LIST: &str = "tests/retired_names.txt";

/// A retired name: a word to find as a whole, in which files, and the name that replaced it.
struct Retired {
    word: String,
    suffixes: Vec<String>,
    allowed: Vec<String>,
    instead: String,
}

#[test]
fn retired_names_stay_out() {
    let retired = list();
    assert!(
        retired.len() > 100,
        "only {} retired names were read",
        retired.len()
    );
    let mut broken = Vec::new();
    for file in tracked_files() {
        let Ok(text) = fs::read_to_string(root().join(&file)) else {
            continue;
        };
        for name in &retired {
            let applies = name.suffixes.iter().any(|suffix| file.ends_with(suffix.as_str()))
                && !name.allowed.iter().any(|path| file.starts_with(path.as_str()));
            if !applies {
                continue;
            }
            for (number, line) in text
                .lines()
                .enumerate()
                .filter(|(_, line)| holds(line, &name.word))
            {
                broken.push(format!(
                    "{file}:{}: `{}` is retired, use {}: {}",
                    number + 1,
                    name.word,
                    name.instead,
                    line.trim()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_retired_name_is_found_as_a_whole_word_only() {
    assert!(holds("    let x = Gatekeeper::new();", "Gatekeeper"));
    assert!(!holds("    let x = GatekeeperOfOld::new();", "Gatekeeper"));
    assert!(holds(".route(\"/v1/gate/{sale}\")", "/v1/gate/"));
    assert!(holds("returner_share = 0.5", "returner_share"));
    assert!(!holds("late_returner_share = 0.5", "returner_share"));
    assert!(!holds("idempotency-key-reused", "key-reused"));
}

/// Whether a line holds `word`, not as a part of a longer identifier. In hyphenated words a hyphen joins too.
fn holds(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_' || (c == '-' && word.contains('-'));
    let is_part = |c: Option<char>| c.is_some_and(joins);
    line.match_indices(word).any(|(at, _)| {
        let starts_inside = is_part(word.chars().next()) && is_part(line[..at].chars().next_back());
        let ends_inside =
            is_part(word.chars().next_back()) && is_part(line[at + word.len()..].chars().next());
        !starts_inside && !ends_inside
    })
}

/// Lines `suffixes | word | instead | allowed paths`; `#` starts a comment.
fn list() -> Vec<Retired> {
    let text = fs::read_to_string(root().join(LIST)).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            assert!(
                columns.len() >= 3,
                "{LIST}: a line needs suffixes, word and replacement: {line}"
            );
            let many = |column: Option<&&str>| {
                column.map_or_else(Vec::new, |text| {
                    text.split_whitespace().map(str::to_owned).collect()
                })
            };
            Retired {
                suffixes: many(columns.first()),
                word: columns[1].to_owned(),
                instead: columns[2].to_owned(),
                allowed: many(columns.get(3)),
            }
        })
        .collect()
}

/// Every text file of the project below the top-level folders, as a path from the workspace's folder.
fn tracked_files() -> Vec<String> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "loadtest", "benches", "config"] {
        walk(folder, &mut files);
    }
    files.push("README.md".to_owned());
    files.retain(|file| file != LIST);
    files
}

fn walk(folder: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if !["node_modules", "target"].contains(&name.as_str()) {
                walk(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}
