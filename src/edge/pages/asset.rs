//! Files that pages refer to: CSS, JavaScript and images, each named by the release so that browsers may keep
//! it for ever.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    io::Write as _,
    sync::Arc,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/css"]
struct Css;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/js"]
pub(super) struct Js;

#[derive(RustEmbed)]
#[folder = "src/edge/pages/art"]
struct Art;

/// `Cache-Control` of a file whose name contains its release.
pub(super) const ASSET_CACHE: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` of a file under a name that another release's file may have too.
pub(super) const STALE_CACHE: &str = "no-cache";

/// Bytes ready to be sent, with what the headers say about them. Cloning copies no content.
#[derive(Clone, Debug)]
pub struct Asset {
    /// The `Content-Type` value.
    pub content_type: &'static str,
    /// Strong and quoted, the same for both encodings: a response needs `Vary: Accept-Encoding`.
    pub etag: Arc<str>,
    /// The content, uncompressed.
    pub plain: Bytes,
    /// The content, compressed with gzip.
    pub gzip: Bytes,
    /// The `Cache-Control` value.
    pub cache: &'static str,
}

/// All files by name, as they are in the source.
pub(super) fn files() -> BTreeMap<String, Vec<u8>> {
    let css = Css::iter().filter_map(|name| Some((name.to_string(), Css::get(&name)?.data.into_owned())));
    let js = Js::iter().filter_map(|name| Some((name.to_string(), Js::get(&name)?.data.into_owned())));
    let art = Art::iter().filter_map(|name| Some((name.to_string(), Art::get(&name)?.data.into_owned())));
    css.chain(js).chain(art).collect()
}

/// Names of all files in this release, by their names in the source.
pub(super) fn names_in_release<'a>(
    names: impl Iterator<Item = &'a String>,
    release: &str,
) -> BTreeMap<String, String> {
    names
        .map(|name| (name.clone(), name_in_release(name, release)))
        .collect()
}

/// A file, ready to be sent: scripts and styles without comments and with references to this release's names.
pub(super) fn asset(name: &str, bytes: Vec<u8>, names: &BTreeMap<String, String>) -> Asset {
    let bytes = if is_text(name) {
        point_to_release(&minify(&bytes), names).into_bytes()
    } else {
        bytes
    };
    encode(content_type(name), bytes, ASSET_CACHE)
}

/// One fingerprint for all files together: a page never mixes modules of two releases, although modules
/// import each other freely.
pub(super) fn fingerprint<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
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

fn name_in_release(name: &str, release: &str) -> String {
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

/// Drops indentation and comment lines, which a phone in a crowd need not fetch. Works line by line: no
/// string may span several lines.
pub(super) fn minify(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| {
            !(line.is_empty() || line.starts_with("//") || line.starts_with("/*") && line.ends_with("*/"))
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Replaces references between files. They are written `./name`, which also works when the folder is opened
/// from disk.
fn point_to_release(text: &str, names: &BTreeMap<String, String>) -> String {
    names.iter().fold(text.to_owned(), |text, (name, address)| {
        text.replace(&format!("./{name}"), &format!("./{address}"))
    })
}

/// Everything in quotes in a script: among it every key of a text that a script names.
pub(super) fn quoted_in_scripts(files: &BTreeMap<String, Vec<u8>>) -> HashSet<String> {
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

/// Compresses and fingerprints a body.
///
/// # Panics
/// Never: writing to memory cannot fail.
pub(super) fn encode(content_type: &'static str, bytes: Vec<u8>, cache: &'static str) -> Asset {
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
