//! Where each key was set.

use std::collections::BTreeMap;

use serde_path_to_error::Segment;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Finds where a key was set.
pub(super) struct KeyOrigins<'t> {
    /// The file's name.
    pub(super) file: &'t str,
    /// The file's content.
    pub(super) text: &'t str,
    pub(super) spans: &'t Spanned<DeTable<'t>>,
    /// Key -> the variable that set it.
    pub(super) variables: BTreeMap<String, String>,
}

impl KeyOrigins<'_> {
    /// The variable that set the key or a section around it, else its position in the file, else a variable
    /// that set a key inside it, else the position of the nearest section around it.
    pub(super) fn source_of(&self, key: &str) -> String {
        let is_inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let folded = key.to_lowercase();
        if let Some((_, variable)) = self
            .variables
            .iter()
            .rev()
            .find(|(set, _)| is_inside(&folded, set))
        {
            return variable.clone();
        }
        let names: Vec<&str> = key
            .split(['.', '['])
            .map(|name| name.trim_end_matches(']'))
            .collect();
        if let Some(at) = self.position(&names) {
            return position_text(self.file, self.text, at);
        }
        if let Some((_, variable)) = self.variables.iter().find(|(set, _)| is_inside(set, &folded)) {
            return variable.clone();
        }
        (1..names.len())
            .rev()
            .find_map(|n| self.position(&names[..n]))
            .map_or_else(
                || "the defaults".to_owned(),
                |at| position_text(self.file, self.text, at),
            )
    }

    fn position(&self, names: &[&str]) -> Option<usize> {
        let (first, rest) = names.split_first()?;
        let (key, mut value) = self.spans.get_ref().get_key_value(*first)?;
        let mut at = key.span().start;
        for name in rest {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let (key, inner) = table.get_key_value(*name)?;
                    at = key.span().start;
                    value = inner;
                }
                DeValue::Array(list) => {
                    value = list.get(name.parse::<usize>().ok()?)?;
                    at = value.span().start;
                }
                _ => return None,
            }
        }
        Some(at)
    }
}

/// `FILE:LINE:COLUMN` of a byte offset.
pub(super) fn position_text(name: &str, text: &str, at: usize) -> String {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}")
}

/// Appends a name or an index to a key's path.
pub(super) fn append(path: &mut String, name: &str) {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        path.push('[');
        path.push_str(name);
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
}

/// The key's path, such as `sales[0].title`.
pub(super) fn key_path(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => append(&mut text, &index.to_string()),
            Segment::Map { key } => append(&mut text, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}
