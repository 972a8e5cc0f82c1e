//! The languages of the pages, and which one a visitor gets.

use std::collections::BTreeMap;

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/locales"]
struct Locales;

/// A language of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lang {
    /// Korean.
    Ko,
    /// English.
    En,
    /// Japanese.
    Ja,
}

impl Lang {
    /// All of them, the sale's own language first.
    pub const ALL: [Self; 3] = [Self::Ko, Self::En, Self::Ja];

    /// The BCP 47 tag, as in the cookie `sd_lang` and in `?lang=`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
            Self::Ja => "ja",
        }
    }

    /// The language of a BCP 47 tag, by its primary subtag; `None` when there are no pages in it.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or(tag);
        Self::ALL
            .into_iter()
            .find(|lang| lang.tag().eq_ignore_ascii_case(primary))
    }

    /// The language of the query parameter, else of the cookie, else the one that the browser prefers. A
    /// browser that wants none of these languages gets English; one that says nothing gets the sale's own
    /// language.
    #[must_use]
    pub fn choose(accept_language: Option<&str>, cookie: Option<&str>, query: Option<&str>) -> Self {
        query
            .and_then(Self::from_tag)
            .or_else(|| cookie.and_then(Self::from_tag))
            .unwrap_or_else(|| match accept_language {
                None => Self::Ko,
                Some(header) => preferred(header),
            })
    }

    /// All texts of the language, by key.
    pub(super) fn texts(self) -> BTreeMap<String, String> {
        let file =
            Locales::get(&format!("{}.json", self.tag())).expect("every language's texts are embedded");
        serde_json::from_slice(&file.data).expect("the tests read every language's texts")
    }
}

/// RFC 9110 section 12.5.4 in short: highest weight first, earlier among equals, weight 0 means never.
fn preferred(header: &str) -> Lang {
    let mut best: Option<(f32, Lang)> = None;
    for item in header.split(',').take(32) {
        let (tag, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = match parameters.trim().strip_prefix("q=") {
            Some(weight) => weight.trim().parse().unwrap_or(0.0),
            None => 1.0_f32,
        };
        let lang = match tag.trim() {
            "*" => Some(Lang::Ko),
            tag => Lang::from_tag(tag),
        };
        if let Some(lang) = lang
            && weight > best.map_or(0.0, |(weight, _)| weight)
        {
            best = Some((weight, lang));
        }
    }
    best.map_or(Lang::En, |(_, lang)| lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_wins_over_cookie_and_cookie_over_browser() {
        assert_eq!(Lang::choose(Some("ja"), Some("en"), Some("ko")), Lang::Ko);
        assert_eq!(Lang::choose(Some("ja"), Some("en"), Some("klingon")), Lang::En);
        assert_eq!(Lang::choose(Some("ja"), None, None), Lang::Ja);
        assert_eq!(Lang::choose(None, None, None), Lang::Ko);
    }

    #[test]
    fn accept_language_weights_are_respected() {
        assert_eq!(
            Lang::choose(Some("fr-FR, en;q=0.5, ja-JP;q=0.8"), None, None),
            Lang::Ja
        );
        assert_eq!(Lang::choose(Some("ko;q=0, de"), None, None), Lang::En);
        assert_eq!(Lang::choose(Some("en-GB,ko"), None, None), Lang::En);
        assert_eq!(Lang::choose(Some("fr, *;q=0.1"), None, None), Lang::Ko);
        assert_eq!(Lang::choose(Some(";;;q=,,"), None, None), Lang::En);
    }
}
