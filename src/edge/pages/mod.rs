//! The fan's pages: HTML, CSS, JavaScript and words, embedded in the binary and rendered once at start.
//!
//! A page is a template in `html/` with five kinds of placeholders: `{{t:key}}` a text in the page's language, escaped;
//! `{{lang}}`; `{{current:ko}}` marks the language in use; `{{part:name}}` includes `html/_name.html`; `{{asset:name}}` the
//! address of a file; `{{words:a,b}}` the texts of those families as a JSON data block for the page's script. Nothing here
//! knows HTTP, sales or queues: what a page shows about them it asks from the public contract.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    io::Write as _,
    sync::Arc,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use rust_embed::RustEmbed;

mod lang;

pub use lang::Lang;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/html"]
struct Html;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/css"]
struct Css;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/js"]
struct Js;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/art"]
struct Art;

/// The pages that exist; which address shows which is the router's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Page {
    Home,
    Sale,
    /// The sale for a browser that runs no scripts; see [`Pages::plain`].
    Plain,
    /// How the order was drawn, to be computed again.
    Draw,
    Seats,
    Order,
    NotFound,
}

impl Page {
    const ALL: [Self; 7] = [
        Self::Home,
        Self::Sale,
        Self::Plain,
        Self::Draw,
        Self::Seats,
        Self::Order,
        Self::NotFound,
    ];

    const fn template(self) -> &'static str {
        match self {
            Self::Home => "home.html",
            Self::Sale => "sale.html",
            Self::Plain => "plain.html",
            Self::Draw => "draw.html",
            Self::Seats => "seats.html",
            Self::Order => "order.html",
            Self::NotFound => "not_found.html",
        }
    }
}

/// Bytes ready to be sent, with what the headers need to say about them. Cloning copies no content.
#[derive(Clone, Debug)]
pub struct Asset {
    pub content_type: &'static str,
    /// Strong and quoted, one for both encodings: whoever sends both adds `Vary: Accept-Encoding`.
    pub etag: Arc<str>,
    pub plain: Bytes,
    pub gzip: Bytes,
    /// The `Cache-Control` value.
    pub cache: &'static str,
}

/// Every page in every language, and the files they refer to.
pub struct Pages {
    rendered: HashMap<(Page, Lang), Asset>,
    /// By plain name: `sale.js`.
    assets: HashMap<String, Asset>,
    words: HashMap<Lang, BTreeMap<String, String>>,
    release: String,
}

/// Differs by cookie and language, so only the browser itself may keep it, and asks each time.
const PAGE_CACHE: &str = "private, no-cache";
const ASSET_CACHE: &str = "public, max-age=31536000, immutable";
const STALE_CACHE: &str = "no-cache";

const PLACE_GOES_HERE: &str = "<!--place-->";

impl Pages {
    /// Renders and compresses everything. Panics on a template that names a missing text or file, which the tests exclude.
    #[must_use]
    pub fn load() -> Self {
        let files = files();
        let named = named_in_scripts(&files);
        let release = fingerprint(
            files
                .iter()
                .flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_slice()]),
        );
        let hashed: BTreeMap<String, String> = files
            .keys()
            .map(|name| (name.clone(), hashed_name(name, &release)))
            .collect();
        let assets = files
            .into_iter()
            .map(|(name, bytes)| {
                let bytes = if is_text(&name) {
                    point_at_hashed(&slim(&bytes), &hashed).into_bytes()
                } else {
                    bytes
                };
                let asset = encode(content_type(&name), bytes, ASSET_CACHE);
                (name, asset)
            })
            .collect();
        let mut rendered = HashMap::new();
        for lang in Lang::ALL {
            let words = lang.words();
            for page in Page::ALL {
                let source = template(page.template());
                let for_scripts = words
                    .iter()
                    .filter(|(key, _)| named.contains(*key) || !source.contains(&format!("{{{{t:{key}}}}}")));
                let for_scripts = for_scripts
                    .map(|(key, text)| (key.as_str(), text.as_str()))
                    .collect();
                let html = render(
                    &source,
                    lang,
                    &Words {
                        all: &words,
                        for_scripts: &for_scripts,
                    },
                    &hashed,
                );
                rendered.insert(
                    (page, lang),
                    encode("text/html; charset=utf-8", html.into_bytes(), PAGE_CACHE),
                );
            }
        }
        let words = Lang::ALL.into_iter().map(|lang| (lang, lang.words())).collect();
        Self {
            rendered,
            assets,
            words,
            release,
        }
    }

    #[must_use]
    pub fn page(&self, page: Page, lang: Lang) -> Asset {
        self.rendered[&(page, lang)].clone()
    }

    /// A text in this language, with its placeholders filled; the key itself where there is no such text.
    #[must_use]
    pub fn text(&self, lang: Lang, key: &str, values: &[(&str, &str)]) -> String {
        let text = self.words[&lang].get(key).map_or(key, String::as_str).to_owned();
        values.iter().fold(text, |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// The page for a browser that runs no scripts, with a heading and these lines on it.
    #[must_use]
    pub fn plain(&self, lang: Lang, heading: &str, lines: &[String]) -> String {
        let lines = lines
            .iter()
            .fold(format!("<h1>{}</h1>\n", escape(heading)), |html, line| {
                html + "<p>" + &escape(line) + "</p>\n"
            });
        String::from_utf8_lossy(&self.rendered[&(Page::Plain, lang)].plain).replace(PLACE_GOES_HERE, &lines)
    }

    /// The file behind `/assets/{path}`. A name of another release, as a rolling restart brings about, gives this release's
    /// file, which then must not be kept under that name; so does the bare name.
    #[must_use]
    pub fn asset(&self, path: &str) -> Option<Asset> {
        if let Some(asset) = self.assets.get(path) {
            return Some(Asset {
                cache: STALE_CACHE,
                ..asset.clone()
            });
        }
        let (front, extension) = path.rsplit_once('.')?;
        let (stem, release) = front.rsplit_once('.')?;
        let asset = self.assets.get(&format!("{stem}.{extension}"))?.clone();
        Some(if release == self.release {
            asset
        } else {
            Asset {
                cache: STALE_CACHE,
                ..asset
            }
        })
    }
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let css = Css::iter().filter_map(|name| Some((name.to_string(), Css::get(&name)?.data.into_owned())));
    let js = Js::iter().filter_map(|name| Some((name.to_string(), Js::get(&name)?.data.into_owned())));
    let art = Art::iter().filter_map(|name| Some((name.to_string(), Art::get(&name)?.data.into_owned())));
    css.chain(js).chain(art).collect()
}

/// One fingerprint for the whole set: a page never mixes modules of two releases, and modules may import each other freely.
fn fingerprint<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..6]
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn hashed_name(name: &str, release: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{release}.{extension}"),
        None => format!("{name}.{release}"),
    }
}

fn is_text(name: &str) -> bool {
    content_type(name).contains("charset")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Indentation and comment lines are for readers of the source; a phone in a crowd need not fetch them.
fn slim(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| {
            !(line.is_empty() || line.starts_with("//") || line.starts_with("/*") && line.ends_with("*/"))
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Files name each other as `./name`, which also works when a folder is opened straight from the disk.
fn point_at_hashed(text: &str, hashed: &BTreeMap<String, String>) -> String {
    hashed.iter().fold(text.to_owned(), |text, (name, address)| {
        text.replace(&format!("./{name}"), &format!("./{address}"))
    })
}

fn template(name: &str) -> String {
    let file = Html::get(name).unwrap_or_else(|| panic!("html/{name} is embedded"));
    String::from_utf8_lossy(&file.data).into_owned()
}

/// The texts of one language, and those of them that a page's scripts may ask for.
struct Words<'a> {
    all: &'a BTreeMap<String, String>,
    for_scripts: &'a BTreeMap<&'a str, &'a str>,
}

/// Everything that stands in quotes in a script: among it every key of a text that a script names.
fn named_in_scripts(files: &BTreeMap<String, Vec<u8>>) -> HashSet<String> {
    let scripts = files
        .iter()
        .filter(|(name, _)| content_type(name).starts_with("text/javascript"));
    scripts
        .flat_map(|(_, bytes)| {
            String::from_utf8_lossy(bytes)
                .split('"')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn render(source: &str, lang: Lang, words: &Words<'_>, hashed: &BTreeMap<String, String>) -> String {
    let mut html = String::with_capacity(source.len() * 2);
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{{") {
        let (placeholder, after) = after
            .split_once("}}")
            .expect("the tests render every template, so no placeholder is left open");
        html.push_str(before);
        html.push_str(&fill(placeholder, lang, words, hashed));
        rest = after;
    }
    html.push_str(rest);
    html
}

fn fill(placeholder: &str, lang: Lang, words: &Words<'_>, hashed: &BTreeMap<String, String>) -> String {
    let (kind, value) = placeholder.split_once(':').unwrap_or((placeholder, ""));
    match kind {
        "lang" => lang.tag().to_owned(),
        "t" => escape(
            words
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
        "part" => render(&template(&format!("_{value}.html")), lang, words, hashed),
        "asset" => format!(
            "/assets/{}",
            hashed
                .get(value)
                .unwrap_or_else(|| panic!("the file `{value}` exists"))
        ),
        "words" => word_block(words.for_scripts, value),
        _ => panic!("`{placeholder}` is a known kind of placeholder"),
    }
}

/// A data block is not executed, so the content security policy needs no exception for it.
fn word_block(words: &BTreeMap<&str, &str>, families: &str) -> String {
    let wanted: BTreeMap<_, _> = words
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

fn escape(text: &str) -> String {
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

fn encode(content_type: &'static str, bytes: Vec<u8>, cache: &'static str) -> Asset {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let gzip = encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory cannot fail");
    Asset {
        content_type,
        etag: format!("\"{}\"", fingerprint(std::iter::once(bytes.as_slice()))).into(),
        plain: bytes.into(),
        gzip: gzip.into(),
        cache,
    }
}

#[cfg(test)]
mod tests;
