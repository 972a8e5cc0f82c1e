//! Every page in every language, rendered and compressed at start, and the files they refer to.

use std::collections::{BTreeMap, HashMap};

use super::{
    asset::{Asset, STALE_CACHE, asset, encode, files, fingerprint, names_in_release, quoted_in_scripts},
    error::{ErrorPage, ErrorPages},
    lang::Lang,
    sign_in_options::SignInOptions,
    template::{Texts, escape, render, template, with_parts},
};

/// The pages that exist. Which address shows which is up to the handlers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Page {
    /// All sales.
    Home,
    /// The queue of a sale.
    Sale,
    /// The queue of a sale for browsers without scripts; see [`Pages::plain`].
    Plain,
    /// How the draw was computed, to be verified in the browser.
    Draw,
    /// The seat map.
    Seats,
    /// What the visitor has bought, and what is held for them.
    Orders,
    /// An order and its tickets.
    Order,
}

impl Page {
    pub(super) const ALL: [Self; 7] = [
        Self::Home,
        Self::Sale,
        Self::Plain,
        Self::Draw,
        Self::Seats,
        Self::Orders,
        Self::Order,
    ];

    /// The file of its template.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Home => "home.html",
            Self::Sale => "sale.html",
            Self::Plain => "plain.html",
            Self::Draw => "draw.html",
            Self::Seats => "seats.html",
            Self::Orders => "orders.html",
            Self::Order => "order.html",
        }
    }
}

/// Every page in every language, and the files they refer to.
pub struct Pages {
    rendered: HashMap<(Page, Lang), Asset>,
    errors: ErrorPages,
    /// By the name in the source: `sale.js`.
    assets: HashMap<String, Asset>,
    texts: HashMap<Lang, BTreeMap<String, String>>,
    release: String,
}

/// `Cache-Control` of pages. They differ by cookie and language, so only the browser may keep one, and must
/// revalidate.
const PAGE_CACHE: &str = "private, no-cache";

/// Where the plain page's template shows the visitor's position.
const POSITION_MARKER: &str = "<!--position-->";

impl Pages {
    /// Renders and compresses everything, with `root` before every address of the service.
    ///
    /// # Panics
    /// On a template that names a missing text or file, which the tests exclude.
    #[must_use]
    pub fn load(sign_in: &SignInOptions, root: &str) -> Self {
        let files = files();
        let named = quoted_in_scripts(&files);
        let release = fingerprint(
            files
                .iter()
                .flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_slice()]),
        );
        let names = names_in_release(files.keys(), &release);
        let texts: HashMap<_, _> = Lang::ALL
            .into_iter()
            .map(|lang| (lang, sign_in.name_shop(lang, lang.texts())))
            .collect();
        let mut rendered = HashMap::new();
        for (lang, all) in &texts {
            for page in Page::ALL {
                let (source, all_parts) = (template(page.template()), with_parts(page.template()));
                // A text that only the template names need not be in the scripts' data block.
                let for_scripts = all
                    .iter()
                    .filter(|(key, _)| {
                        named.contains(*key) || !all_parts.contains(&format!("{{{{t:{key}}}}}"))
                    })
                    .map(|(key, text)| (key.as_str(), text.as_str()))
                    .collect();
                let html = render(
                    &source,
                    *lang,
                    &Texts {
                        root,
                        all,
                        for_scripts: &for_scripts,
                        sign_in,
                    },
                    &names,
                );
                let page_asset = encode("text/html; charset=utf-8", html.into_bytes(), PAGE_CACHE);
                rendered.insert((page, *lang), page_asset);
            }
        }
        let assets = files
            .into_iter()
            .map(|(name, bytes)| {
                let asset = asset(&name, bytes, &names);
                (name, asset)
            })
            .collect();
        Self {
            rendered,
            errors: ErrorPages::render(&texts, sign_in, root),
            assets,
            texts,
            release,
        }
    }

    /// A page in a language.
    #[must_use]
    pub fn page(&self, page: Page, lang: Lang) -> Asset {
        self.rendered[&(page, lang)].clone()
    }

    /// The page of a failed request, by its status.
    #[must_use]
    pub fn error(&self, status: u16, lang: Lang) -> &ErrorPage {
        self.errors.get(status, lang)
    }

    /// A text in this language, with its placeholders filled; the key itself where there is no such text.
    #[must_use]
    pub fn text(&self, lang: Lang, key: &str, values: &[(&str, &str)]) -> String {
        let text = self.texts[&lang].get(key).map_or(key, String::as_str).to_owned();
        values.iter().fold(text, |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// The page for browsers without scripts, with a heading and these lines on it.
    #[must_use]
    pub fn plain(&self, lang: Lang, heading: &str, lines: &[String]) -> String {
        let lines = lines
            .iter()
            .fold(format!("<h1>{}</h1>\n", escape(heading)), |html, line| {
                html + "<p>" + &escape(line) + "</p>\n"
            });
        String::from_utf8_lossy(&self.rendered[&(Page::Plain, lang)].plain).replace(POSITION_MARKER, &lines)
    }

    /// The file behind `/assets/{path}`. A name of another release, which a rolling restart brings about,
    /// gives this release's file, which must then not be kept under that name; so does the name without a
    /// release.
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
