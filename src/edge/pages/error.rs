//! Pages for people whose request failed: one for each status and language, rendered once at start.
//!
//! They need nothing else of the service, neither styles nor images, so that `config/deploy/errors` holds the
//! same bytes for a balancer to serve while no node answers.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    lang::Lang,
    sign_in_options::SignInOptions,
    template::{Texts, escape, render, template},
};

/// A page that says what failed and what to do.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The page, uncompressed.
    pub html: Bytes,
    /// The `Content-Security-Policy` value: only the page's own style.
    pub security_policy: Bytes,
    /// Whether trying again may help, so that the page is to come back by itself.
    pub comes_back: bool,
}

/// Statuses with texts of their own. Every other status gets the text of `UNREADABLE` or `FAILED`.
pub const STATUSES: [u16; 13] = [400, 401, 403, 404, 408, 413, 414, 429, 431, 500, 502, 503, 504];
const UNREADABLE: u16 = 400;
const FAILED: u16 = 500;

/// Every error page by status and language.
pub(super) struct ErrorPages(HashMap<(u16, Lang), ErrorPage>);

impl ErrorPages {
    pub(super) fn render(
        texts: &HashMap<Lang, BTreeMap<String, String>>,
        sign_in: &SignInOptions,
        root: &str,
    ) -> Self {
        let source = template("error.html");
        let mut pages = HashMap::new();
        for (lang, all) in texts {
            let for_scripts = BTreeMap::new();
            let texts = Texts {
                root,
                all,
                for_scripts: &for_scripts,
                sign_in,
            };
            let frame = render(&source, *lang, &texts, &BTreeMap::new());
            for status in STATUSES {
                pages.insert((status, *lang), page(&frame, root, status, all));
            }
        }
        Self(pages)
    }

    pub(super) fn get(&self, status: u16, lang: Lang) -> &ErrorPage {
        let other = if status < FAILED { UNREADABLE } else { FAILED };
        self.0
            .get(&(status, lang))
            .unwrap_or_else(|| &self.0[&(other, lang)])
    }
}

/// Whether the same request may succeed a moment later.
fn may_pass(status: u16) -> bool {
    status >= FAILED || [408, 429].contains(&status)
}

fn page(frame: &str, root: &str, status: u16, texts: &BTreeMap<String, String>) -> ErrorPage {
    let text = |key: &str| {
        escape(
            texts
                .get(key)
                .unwrap_or_else(|| panic!("the text `{key}` exists")),
        )
    };
    let comes_back = may_pass(status);
    let next = if comes_back {
        format!(
            "<p class=\"soft\">{}</p>\n<a href=\"\">{}</a>",
            text("error.comes_back"),
            text("error.again")
        )
    } else {
        format!("<a href=\"{root}/\">{}</a>", text("common.to_home"))
    };
    let html = frame
        .replace("<!--status-->", &status.to_string())
        .replace("<!--heading-->", &text(&format!("error.{status}.heading")))
        .replace("<!--text-->", &text(&format!("error.{status}.text")))
        .replace("<!--next-->", &next);
    ErrorPage {
        security_policy: security_policy(&html).into(),
        html: html.into(),
        comes_back,
    }
}

fn security_policy(html: &str) -> String {
    let style = html
        .split_once("<style>")
        .and_then(|(_, rest)| rest.split_once("</style>"))
        .map_or("", |(style, _)| style);
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}
