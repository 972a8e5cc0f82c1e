//! Templates: HTML with placeholders, rendered once for each language at start.

use std::collections::BTreeMap;

use rust_embed::RustEmbed;

use super::{lang::Lang, sign_in_options::SignInOptions};

#[derive(RustEmbed)]
#[folder = "src/edge/pages/html"]
pub(super) struct Html;

/// The source of a template.
///
/// # Panics
/// When there is none of this name, which the tests exclude.
pub(super) fn template(name: &str) -> String {
    let file = Html::get(name).unwrap_or_else(|| panic!("html/{name} is embedded"));
    String::from_utf8_lossy(&file.data).into_owned()
}

/// The source of a template, followed by those of its parts.
pub(super) fn with_parts(name: &str) -> String {
    let source = template(name);
    let placeholders = source.split("{{").filter_map(|rest| rest.split_once("}}"));
    let parts = placeholders.filter_map(|(placeholder, _)| match placeholder.split_once(':')? {
        ("part", part) => Some(part),
        ("where", option) => option.rsplit(':').next(),
        _ => None,
    });
    let parts: String = parts.map(|part| with_parts(&format!("_{part}.html"))).collect();
    source + &parts
}

/// The texts of one language, and those of them that a page's scripts may ask for.
pub(super) struct Texts<'a> {
    /// The path before every address of the service; empty on a host of its own.
    pub(super) root: &'a str,
    pub(super) all: &'a BTreeMap<String, String>,
    pub(super) for_scripts: &'a BTreeMap<&'a str, &'a str>,
    /// What the sign-in form offers.
    pub(super) sign_in: &'a SignInOptions,
}

/// Fills the placeholders of a template. `names` maps files to their names in this release.
///
/// # Panics
/// On an unknown placeholder, text or file, which the tests exclude.
pub(super) fn render(
    source: &str,
    lang: Lang,
    texts: &Texts<'_>,
    names: &BTreeMap<String, String>,
) -> String {
    let mut html = String::with_capacity(source.len() * 2);
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{{") {
        let (placeholder, after) = after
            .split_once("}}")
            .expect("the tests render every template, so no placeholder is left open");
        html.push_str(before);
        html.push_str(&fill(placeholder, lang, texts, names));
        rest = after;
    }
    html.push_str(rest);
    html
}

fn fill(placeholder: &str, lang: Lang, texts: &Texts<'_>, names: &BTreeMap<String, String>) -> String {
    let (kind, value) = placeholder.split_once(':').unwrap_or((placeholder, ""));
    match kind {
        "lang" => lang.tag().to_owned(),
        "t" => escape(
            texts
                .all
                .get(value)
                .unwrap_or_else(|| panic!("the text `{value}` exists")),
        ),
        "current" => if value == lang.tag() {
            " aria-current=\"true\""
        } else {
            ""
        }
        .to_owned(),
        // A part that only some configurations have, such as `{{where:forgot_password:forgot_password}}`.
        "where" => {
            let (option, part) = value.split_once(':').unwrap_or((value, value));
            if texts.sign_in.has(option) {
                render(&template(&format!("_{part}.html")), lang, texts, names)
            } else {
                String::new()
            }
        }
        "root" => texts.root.to_owned(),
        "link" => escape(texts.sign_in.link(value)),
        "part" => render(&template(&format!("_{value}.html")), lang, texts, names),
        "asset" => format!(
            "{}/assets/{}",
            texts.root,
            names
                .get(value)
                .unwrap_or_else(|| panic!("the file `{value}` exists"))
        ),
        "words" => text_block(texts.for_scripts, value),
        _ => panic!("`{placeholder}` is a known kind of placeholder"),
    }
}

/// The texts of some families as a data block. It is not executed, so the content security policy needs no
/// exception.
fn text_block(texts: &BTreeMap<&str, &str>, families: &str) -> String {
    let wanted: BTreeMap<_, _> = texts
        .iter()
        .filter(|(key, _)| {
            families
                .split(',')
                .any(|family| key.split('.').next() == Some(family))
        })
        .collect();
    let json = serde_json::to_string(&wanted)
        .expect("a map of strings is always JSON")
        .replace('<', "\\u003c");
    format!("<script type=\"application/json\" id=\"words\">{json}</script>")
}

/// Escapes text for HTML content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
