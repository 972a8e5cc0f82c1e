//! How customers sign in without a password here: hand-offs and the OpenID provider, asked as far as no
//! person is needed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Uri};

use crate::{
    app::preflight::report::Report,
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
    ops::config::Settings,
    platform::http_client::{HttpClient, TrustStore},
    shop::{HandoffConfig, HandoffKeys, ProviderFinding, inspect_handoff_keys, inspect_provider},
};

const OFFERED: &str = "sign-in";
const HANDOFF: &str = "hand-off";
const OIDC: &str = "OpenID Connect";
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
const PAGE_BYTES_MAX: usize = 1 << 20;

pub(super) async fn check(settings: &Settings, report: &mut Report) {
    offered(settings, report);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let shop = settings.shop();
    if let Some(handoff) = &shop.handoff {
        handoff_keys(handoff, &clock, &entropy, report).await;
        sign_in_page(settings, report).await;
    }
    if let Some(oidc) = &shop.oidc {
        for finding in inspect_provider(oidc, clock, &*entropy).await {
            match finding {
                ProviderFinding::Good(finding) => report.ok(OIDC, finding),
                ProviderFinding::Unclear(finding) => {
                    report.warn(OIDC, finding, "sign in once through a browser before the sale");
                }
                ProviderFinding::Bad { finding, remedy } => report.failed(OIDC, finding, remedy),
            }
        }
    }
}

/// Which ways in the sign-in page shows.
fn offered(settings: &Settings, report: &mut Report) {
    let shop = &settings.shop;
    let ways: Vec<&str> = [
        (shop.password_sign_in, "their password at the shop"),
        (
            !shop.handoff.sign_in_url.is_empty(),
            "a hand-off of the shop's page",
        ),
        (!shop.oidc.issuer.is_empty(), "the OpenID provider"),
    ]
    .into_iter()
    .filter_map(|(is_offered, way)| is_offered.then_some(way))
    .collect();
    if ways.is_empty() {
        report.failed(
            OFFERED,
            "no customer can sign in: shop.password_sign_in is false, and nothing else is offered",
            "set shop.password_sign_in, shop.handoff.sign_in_url or shop.oidc.issuer",
        );
    } else {
        report.ok(OFFERED, format!("customers sign in by {}", ways.join(" or ")));
    }
}

async fn handoff_keys(
    handoff: &HandoffConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    report: &mut Report,
) {
    match inspect_handoff_keys(handoff, clock, entropy).await {
        Ok(finding) => report.ok(HANDOFF, finding),
        Err(error) => match &handoff.keys {
            HandoffKeys::KeySet(url) => report.failed(
                HANDOFF,
                format!("the key set at {url}: {error}"),
                "publish a key for RS256, ES256 or EdDSA there, without a redirect",
            ),
            HandoffKeys::Secret(_) => report.failed(
                HANDOFF,
                format!("a token under shop.handoff.secret is refused: {error}"),
                "mend the section [shop.handoff]",
            ),
        },
    }
}

/// The shop's page, called as a browser is led there.
async fn sign_in_page(settings: &Settings, report: &mut Report) {
    let page = &settings.shop.handoff.sign_in_url;
    if page.is_empty() {
        report.ok(
            HANDOFF,
            "programs hand customers over: no page of the shop is configured",
        );
        return;
    }
    let separator = if page.contains('?') { '&' } else { '?' };
    let return_to = format!("{}/v1/sign-in/return", settings.server.public_base);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("state", "preflight")
        .append_pair("return_to", &return_to)
        .finish();
    // The configuration's checks parse it.
    let Ok(uri) = format!("{page}{separator}{query}").parse::<Uri>() else {
        return;
    };
    let client = HttpClient::with_trust_store(PAGE_TIMEOUT, PAGE_BYTES_MAX, &TrustStore::for_url(page));
    match client.send(Method::GET, uri, &[], Bytes::new()).await {
        Ok(response) if response.status.is_success() || response.status.is_redirection() => {
            report.ok(
                HANDOFF,
                format!("the shop's sign-in page {page} answers {}", response.status),
            );
        }
        Ok(response) => report.failed(
            HANDOFF,
            format!("the shop's sign-in page {page} answers {}", response.status),
            "mend the page or shop.handoff.sign_in_url: it must let visitors sign in whom it does not know",
        ),
        Err(error) => report.warn(
            HANDOFF,
            format!("the shop's sign-in page {page} was not reached from here: {error}"),
            "open it in a browser: customers must reach it, this machine need not",
        ),
    }
}
