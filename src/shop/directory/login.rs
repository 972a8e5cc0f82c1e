//! What customers type to say who they are.

use unicode_normalization::UnicodeNormalization;

/// A login as a customer typed it, without surrounding whitespace and in composed form (Unicode NFC).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    as_typed: String,
    lower_case: String,
}

impl Login {
    /// Reads what was typed.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        let as_typed: String = typed.trim().nfc().collect();
        let lower_case = as_typed.to_lowercase();
        Self { as_typed, lower_case }
    }

    /// With the customer's capitals.
    #[must_use]
    pub fn as_typed(&self) -> &str {
        &self.as_typed
    }

    /// In lower case.
    #[must_use]
    pub fn lower_case(&self) -> &str {
        &self.lower_case
    }
}

/// Orders texts without regard to case and surrounding whitespace. A search compares every stored login, so
/// the common case builds no text.
pub(super) fn any_case(one: &str, other: &str) -> std::cmp::Ordering {
    let (one, other) = (one.trim(), other.trim());
    if one.is_ascii() && other.is_ascii() {
        return one
            .bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .cmp(other.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    one.nfc()
        .flat_map(char::to_lowercase)
        .cmp(other.nfc().flat_map(char::to_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering::Equal;

    #[test]
    fn case_whitespace_and_composition_do_not_matter() {
        for (typed, stored) in [
            (" Hana@Example.com", "hana@example.com "),
            ("émilie@exämple.com", "ÉMILIE@exämple.com"),
            ("e\u{301}milie@example.com", "Émilie@example.com"),
            ("한글@예시.한국", "한글@예시.한국"),
        ] {
            assert_eq!(any_case(typed, stored), Equal, "{typed} {stored}");
            assert_eq!(Login::new(typed).lower_case(), Login::new(stored).lower_case());
        }
        for (typed, stored) in [
            ("emilie@a.b", "émilie@a.b"),
            ("kimsu@a.b", "kim.su@a.b"),
            ("a", "ab"),
        ] {
            assert_ne!(any_case(typed, stored), Equal, "{typed} {stored}");
        }
    }
}
