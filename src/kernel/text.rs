//! Localized texts, and characters that the eye cannot tell apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// A text in several languages, by language code (`ko`, `en`, `ja`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalText(pub BTreeMap<String, String>);

impl LocalText {
    /// The text in `language`, else in English, else in any language; empty when there is none.
    #[must_use]
    pub fn in_language(&self, language: &str) -> &str {
        self.0
            .get(language)
            .or_else(|| self.0.get("en"))
            .or_else(|| self.0.values().next())
            .map_or("", String::as_str)
    }
}

/// The first character of a text that no reader can see or that is no character at all: controls, format
/// characters, fillers, noncharacters, and the replacement character of a broken encoding. What joins the
/// parts of an emoji is part of it.
#[must_use]
pub fn invisible_character(text: &str) -> Option<char> {
    let mut before = ' ';
    text.chars().find(|c| {
        let joins_emoji = matches!(*c, EMOJI_JOINER) && is_emoji_part(before);
        before = *c;
        is_invisible(*c) && !joins_emoji
    })
}

/// Joins the parts of one emoji, such as a family.
const EMOJI_JOINER: char = '\u{200d}';

/// Whether a character can come before an [`EMOJI_JOINER`]: a pictograph, or the mark of its colored form.
fn is_emoji_part(c: char) -> bool {
    matches!(u32::from(c), 0x2190..=0x2BFF | 0xFE0F | 0x1_F000..=0x1_FAFF)
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0xAD | 0x34F
                | 0x61C
                | 0x115F..=0x1160
                | 0x17B4..=0x17B5
                | 0x180B..=0x180F
                | 0x200B..=0x200F
                | 0x2028..=0x202E
                | 0x2060..=0x206F
                | 0x2800
                | 0x3164
                | 0xFDD0..=0xFDEF
                | 0xFE00..=0xFE0D
                | 0xFEFF
                | 0xFFA0
                | 0xFFF0..=0xFFFF
                | 0x1_BCA0..=0x1_BCA3
                | 0x1_D173..=0x1_D17A
                | 0xE_0000..=0xE_0FFF
        )
}

/// The same for two texts that look alike in print: full-width letters, composed and decomposed ones, Greek
/// and Cyrillic capitals, dashes and runs of spaces. Case and look-alike digits (O and 0) stay apart: venues
/// use both.
#[must_use]
pub fn look_alike_key(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    // The marks of an emoji's plain and colored form change nothing that a label should hang on.
    let is_emoji_mark = |c: &char| matches!(*c, '\u{fe0e}' | '\u{fe0f}' | EMOJI_JOINER);
    for c in text.nfkc().filter(|c| !is_emoji_mark(c)).map(look_alike_letter) {
        let is_space = c.is_whitespace();
        if !(is_space && (key.is_empty() || key.ends_with(' '))) {
            key.push(if is_space { ' ' } else { c });
        }
    }
    key.truncate(key.trim_end().len());
    key
}

/// The Latin letter or ASCII sign that looks the same; the character itself when there is none.
fn look_alike_letter(c: char) -> char {
    const ALIKE: [(&str, char); 34] = [
        ("\u{391}\u{410}", 'A'),
        ("\u{392}\u{412}", 'B'),
        ("\u{3f9}\u{421}", 'C'),
        ("\u{395}\u{415}", 'E'),
        ("\u{397}\u{41d}", 'H'),
        ("\u{399}\u{406}\u{4c0}", 'I'),
        ("\u{408}", 'J'),
        ("\u{39a}\u{41a}", 'K'),
        ("\u{39c}\u{41c}", 'M'),
        ("\u{39d}", 'N'),
        ("\u{39f}\u{41e}", 'O'),
        ("\u{3a1}\u{420}", 'P'),
        ("\u{405}", 'S'),
        ("\u{3a4}\u{422}", 'T'),
        ("\u{3a7}\u{425}", 'X'),
        ("\u{3a5}\u{4ae}", 'Y'),
        ("\u{396}", 'Z'),
        ("\u{430}", 'a'),
        ("\u{441}", 'c'),
        ("\u{435}", 'e'),
        ("\u{456}", 'i'),
        ("\u{458}", 'j'),
        ("\u{3bf}\u{43e}", 'o'),
        ("\u{440}", 'p'),
        ("\u{455}", 's'),
        ("\u{3bd}", 'v'),
        ("\u{445}", 'x'),
        ("\u{443}", 'y'),
        ("\u{2018}\u{2019}\u{2032}\u{2bc}", '\''),
        ("\u{201c}\u{201d}", '"'),
        (
            "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{30fc}",
            '-',
        ),
        ("\u{2044}\u{2215}", '/'),
        ("\u{2022}\u{2219}\u{22c5}\u{30fb}", '\u{b7}'),
        ("\u{a0}", ' '),
    ];
    if c.is_ascii() {
        return c;
    }
    ALIKE
        .iter()
        .find(|(alike, _)| alike.contains(c))
        .map_or(c, |(_, letter)| *letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_look_alike_have_one_key() {
        for (one, other) in [
            ("A", "\u{410}"),
            ("A", "\u{ff21}"),
            ("\u{e9}", "e\u{301}"),
            ("\u{ac00}", "\u{1100}\u{1161}"),
            ("A 1", " A\u{a0} 1 "),
            ("A-1", "A\u{2013}1"),
        ] {
            assert_eq!(look_alike_key(one), look_alike_key(other), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("A", "a"),
            ("O", "0"),
            ("1", "I"),
            ("\u{ac00}\u{c5f4}", "\u{b098}\u{c5f4}"),
        ] {
            assert_ne!(look_alike_key(one), look_alike_key(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn invisible_characters_are_found_and_spaces_are_not() {
        for c in ["\u{200b}", "\u{feff}", "\u{3164}", "\u{202e}", "\u{fffd}", "\t"] {
            assert!(invisible_character(&format!("A{c}1")).is_some(), "{c:?}");
        }
        for visible in [
            "R\u{c11d} \u{3000}12 \u{e9}",
            "live \u{2764}\u{fe0f}",
            "\u{1f468}\u{200d}\u{1f467}",
        ] {
            assert_eq!(invisible_character(visible), None, "{visible}");
        }
        assert!(invisible_character("A\u{200d}1").is_some());
    }
}
