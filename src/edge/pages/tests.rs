//! Texts, templates and assets agree with each other in every language.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use super::{
    Lang, Page, Pages, SignInOptions,
    asset::{ASSET_CACHE, Js, STALE_CACHE, minify},
    template::{Html, Texts, render, template},
};

use crate::kernel::LocalText;

/// Families of texts whose last part comes from the server, so that no script names the whole key.
const LOOKED_UP: [&str; 9] = [
    "error.",
    "problem.",
    "plain.",
    "refusal.",
    "history.",
    "home.phase.",
    "order.state.",
    "order.text.",
    // The shop's name where the configuration has none.
    "sign_in.the_shop",
];

fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name)
        .collect()
}

fn quoted_after<'a>(text: &'a str, opening: &str, closing: char) -> Vec<&'a str> {
    text.match_indices(opening)
        .filter_map(|(at, _)| text[at + opening.len()..].split_once(closing))
        .map(|(inside, _)| inside)
        .collect()
}

/// Every string in a script that looks like the key of a text.
fn keys_in_script(script: &str, families: &BTreeSet<&str>) -> BTreeSet<String> {
    script
        .split('"')
        .filter(|word| {
            word.contains('.')
                && word
                    .split('.')
                    .next()
                    .is_some_and(|family| families.contains(family))
        })
        .filter(|word| {
            word.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        })
        .filter(|word| {
            !word
                .rsplit('.')
                .next()
                .is_some_and(|last| ["js", "css", "svg"].contains(&last))
        })
        .map(str::to_owned)
        .collect()
}

fn scripts() -> BTreeMap<String, String> {
    Js::iter()
        .map(|name| {
            (
                name.to_string(),
                String::from_utf8(Js::get(&name).unwrap().data.into_owned()).unwrap(),
            )
        })
        .collect()
}

fn templates() -> Vec<String> {
    Html::iter().map(|name| template(&name)).collect()
}

#[test]
fn languages_have_the_same_texts_and_placeholders() {
    let korean = Lang::Ko.texts();
    for lang in [Lang::En, Lang::Ja] {
        let words = lang.texts();
        assert_eq!(
            korean.keys().collect::<Vec<_>>(),
            words.keys().collect::<Vec<_>>(),
            "keys of {lang:?}"
        );
        for (key, text) in &korean {
            assert_eq!(
                placeholders(text),
                placeholders(&words[key]),
                "placeholders of {key} in {lang:?}"
            );
        }
    }
}

#[test]
fn every_used_text_exists_and_every_text_is_used() {
    let words = Lang::Ko.texts();
    let families: BTreeSet<&str> = words.keys().filter_map(|key| key.split('.').next()).collect();
    let mut used: BTreeSet<String> = templates()
        .iter()
        .flat_map(|html| {
            quoted_after(html, "{{t:", '}')
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    for script in scripts().values() {
        used.extend(keys_in_script(script, &families));
    }
    for key in &used {
        assert!(words.contains_key(key), "`{key}` is used and has no text");
    }
    for key in words.keys() {
        let looked_up = LOOKED_UP.iter().any(|family| key.starts_with(family));
        assert!(
            looked_up || used.contains(key),
            "`{key}` has a text and is not used"
        );
    }
}

#[test]
fn a_page_carries_the_texts_its_scripts_ask_for() {
    let words = Lang::Ko.texts();
    let families: BTreeSet<&str> = words.keys().filter_map(|key| key.split('.').next()).collect();
    let scripts = scripts();
    for page in Page::ALL {
        let html = template(page.template());
        let carried: BTreeSet<&str> = quoted_after(&html, "{{words:", '}')
            .into_iter()
            .flat_map(|list| list.split(','))
            .collect();
        for script in reachable(&html, &scripts) {
            for key in keys_in_script(&scripts[&script], &families) {
                let family = key.split('.').next().unwrap().to_owned();
                assert!(
                    carried.contains(family.as_str()),
                    "{page:?} runs {script}, which asks for `{key}`"
                );
            }
        }
    }
}

/// The scripts that a page loads, with everything they import.
fn reachable(html: &str, scripts: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = quoted_after(html, "{{asset:", '}')
        .into_iter()
        .filter(|name| scripts.contains_key(*name))
        .map(str::to_owned)
        .collect();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(
                quoted_after(&scripts[&name], "from \"./", '"')
                    .into_iter()
                    .map(str::to_owned),
            );
        }
    }
    found
}

#[test]
fn the_queue_page_fits_the_first_round_trip() {
    let (own_host, under_path) = ["", "/tickets"]
        .map(|root| Pages::load(&SignInOptions::default(), root))
        .into();
    let html = template(Page::Sale.template());
    let files: BTreeSet<String> = reachable(&html, &scripts())
        .into_iter()
        .chain(["base.css", "sale.css"].map(str::to_owned))
        .collect();
    for lang in Lang::ALL {
        for pages in [&own_host, &under_path] {
            let page = pages.page(Page::Sale, lang).gzip.len();
            let rest: usize = files
                .iter()
                .map(|name| pages.asset(name).unwrap().gzip.len())
                .sum();
            assert!(page + rest < 14 * 1024, "{lang:?}: {page} + {rest} bytes");
        }
    }
}

#[test]
fn pages_refer_to_immutable_asset_names() {
    let pages = Pages::load(&SignInOptions::default(), "");
    let mut seen = 0;
    for page in Page::ALL {
        for lang in Lang::ALL {
            let asset = pages.page(page, lang);
            let html = String::from_utf8(asset.plain.to_vec()).unwrap();
            assert!(html.contains(&format!("<html lang=\"{}\"", lang.tag())));
            for name in quoted_after(&html, "\"/assets/", '"') {
                assert_eq!(
                    pages.asset(name).unwrap_or_else(|| panic!("{name}")).cache,
                    ASSET_CACHE,
                    "{name}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
    let script = pages.asset("sale.js").unwrap();
    for name in quoted_after(std::str::from_utf8(&script.plain).unwrap(), "from \"./", '"') {
        assert_eq!(
            pages.asset(name).unwrap_or_else(|| panic!("{name}")).cache,
            ASSET_CACHE,
            "{name}"
        );
    }
}

#[test]
fn pages_under_a_path_lead_nowhere_else() {
    let pages = Pages::load(&SignInOptions::default(), "/tickets");
    let mut seen = 0;
    for page in Page::ALL {
        let html = String::from_utf8(pages.page(page, Lang::Ko).plain.to_vec()).unwrap();
        for address in quoted_after(&html, "=\"/", '"') {
            assert!(address.starts_with("tickets/"), "{page:?}: /{address}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
    let missing = String::from_utf8(pages.error(404, Lang::Ko).html.to_vec()).unwrap();
    assert_eq!(quoted_after(&missing, "href=\"/", '"'), ["tickets/"]);
    // Scripts find the path by their own address, so no address in them begins at the host's root.
    for (name, script) in scripts() {
        for quote in ["\"", "'", "`"] {
            for start in ["/v1", "/sales", "/orders", "/assets", "/.well-known", "/\"", "/`"] {
                let address = format!("{quote}{start}");
                // A split at slashes is no address; a comment shows one.
                let script = minify(script.as_bytes())
                    .replace("split(\"/\")", "")
                    .replace(", \"/\")", "");
                assert!(!script.contains(&address), "{name}: {address}");
            }
        }
    }
}

#[test]
fn a_name_of_another_release_is_served_but_not_cached() {
    let pages = Pages::load(&SignInOptions::default(), "");
    assert_eq!(pages.asset("sale.000000000000.js").unwrap().cache, STALE_CACHE);
    assert_eq!(pages.asset("sale.js").unwrap().cache, STALE_CACHE);
    for path in [
        "",
        ".",
        "..",
        "nothing.js",
        "../mod.rs",
        "sale.html",
        "a.b.c.d",
        "sale..js",
    ] {
        assert_eq!(pages.asset(path).is_some(), path == "sale..js", "{path}");
    }
}

/// `default-src 'self'` allows neither inline scripts and styles nor anything from elsewhere.
#[test]
fn pages_keep_to_the_content_security_policy() {
    let pages = Pages::load(&SignInOptions::default(), "");
    for page in Page::ALL {
        let html = String::from_utf8(pages.page(page, Lang::Ko).plain.to_vec()).unwrap();
        for forbidden in [
            "<style",
            " style=",
            " onclick=",
            " onload=",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!html.contains(forbidden), "{page:?} contains {forbidden}");
        }
        for script in quoted_after(&html, "<script", '>') {
            assert!(
                script.contains(" src=\"/assets/") || script.contains("type=\"application/json\""),
                "{page:?}: {script}"
            );
        }
    }
    for (name, script) in scripts() {
        assert!(
            !script.contains("eval(") && !script.contains(" style=") && !script.contains("http://"),
            "{name}"
        );
    }
}

#[test]
fn both_encodings_have_the_same_content() {
    let pages = Pages::load(&SignInOptions::default(), "");
    for asset in [
        pages.page(Page::Sale, Lang::Ja),
        pages.asset("map.js").unwrap(),
        pages.asset("poster.svg").unwrap(),
    ] {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&asset.gzip[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(asset.plain, unpacked);
        assert!(asset.etag.starts_with('"') && asset.etag.ends_with('"') && asset.etag.len() == 14);
    }
}

#[test]
fn texts_are_escaped_in_pages_and_in_data_blocks() {
    let text = "</script><b>\"&'".to_owned();
    let all = BTreeMap::from([("sale.a".to_owned(), text.clone())]);
    let for_scripts = BTreeMap::from([("sale.a", text.as_str())]);
    let html = render(
        "{{t:sale.a}}|{{words:sale}}",
        Lang::En,
        &Texts {
            root: "",
            all: &all,
            for_scripts: &for_scripts,
            sign_in: &SignInOptions::default(),
        },
        &BTreeMap::new(),
    );
    let (shown, block) = html.split_once('|').unwrap();
    assert_eq!(shown, "&lt;/script&gt;&lt;b&gt;&quot;&amp;&#39;");
    assert_eq!(block.matches("</script>").count(), 1);
}

/// Scripts are minified line by line, which would break a string over several lines.
#[test]
fn no_script_has_a_string_over_several_lines() {
    for (name, script) in scripts() {
        for line in script.lines() {
            assert_eq!(line.matches('`').count() % 2, 0, "{name}: {line}");
        }
    }
    assert_eq!(
        minify(b"  // a\n  b(\"//c\"); // d\n\n/** e */\n"),
        "b(\"//c\"); // d\n"
    );
}

#[test]
fn the_sign_in_offers_what_is_configured() {
    let named = LocalText(BTreeMap::from([("en".to_owned(), "Hero & Co".to_owned())]));
    let only_shop = SignInOptions {
        shop_name: named,
        takes_passwords: false,
        leads_to_shop: true,
        forgot_password_url: Some("https://shop.example/forgot".to_owned()),
        new_account_url: Some("https://shop.example/new?a=1&b=2".to_owned()),
    };
    let both = SignInOptions {
        takes_passwords: true,
        ..only_shop.clone()
    };
    let sign_in_pages = [Page::Sale, Page::Seats, Page::Orders, Page::Order];
    for (options, password, shop) in [
        (SignInOptions::default(), true, false),
        (only_shop, false, true),
        (both, true, true),
    ] {
        let pages = Pages::load(&options, "");
        for (page, lang) in sign_in_pages
            .into_iter()
            .flat_map(|page| Lang::ALL.map(|lang| (page, lang)))
        {
            let html = String::from_utf8(pages.page(page, lang).plain.to_vec()).unwrap();
            assert_eq!(html.contains("name=\"password\""), password, "{page:?} {lang:?}");
            assert_eq!(
                html.contains("href=\"/v1/sign-in/shop\""),
                shop,
                "{page:?} {lang:?}"
            );
            assert_eq!(html.contains("https://shop.example/forgot"), password && shop);
            assert_eq!(html.contains("https://shop.example/new?a=1&amp;b=2"), shop);
            assert_eq!(html.contains("Hero &amp; Co"), shop, "{page:?} {lang:?}");
            assert!(!html.contains("{shop}"), "{page:?} {lang:?}");
        }
    }
    let unnamed = Pages::load(&SignInOptions::default(), "");
    let korean = String::from_utf8(unnamed.page(Page::Sale, Lang::Ko).plain.to_vec()).unwrap();
    assert!(korean.contains("늘 쓰시던 쇼핑몰 아이디를"));
}
