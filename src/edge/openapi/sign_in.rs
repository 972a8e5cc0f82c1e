//! Operations of signing in, and those for other programs.

use serde_json::json;

use super::{examples, operation::OperationDoc, security::Credential};
use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::{
            forward_auth::{JWKS_CACHE, JwkSet},
            shop_sign_in::{DepositedHandoff, HandoffForm},
            sign_in::{Credentials, CustomerName, HandoffRequest, SessionResponse},
        },
    },
    platform::signing::Jwk,
};

const TAG: &str = "sign-in";
const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiI0MiJ9.c2ln";
const CODE: &str = "AXh0cQ0k2m4yX7uQ";
const USED_STATE: &str = "state: this sign-in at the shop was completed before";
const STATE: &str = "AWp5Rk3d9mTg0aLs";

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![
        sign_in(),
        sign_in_by_handoff(),
        deposit_handoff(),
        sign_in_at_shop(),
        return_from_shop_with_handoff(),
        return_from_shop_with_code(),
        return_from_provider(),
        sign_out(),
        get_public_keys(),
        check_pass(),
    ]
}

fn sign_in() -> OperationDoc {
    session(
        OperationDoc::new("sign_in", TAG, "Sign in with login and password")
            .describe(
                "The shop's customer list decides. Attempts are limited for each address, and wrong \
                passwords for each account: beyond that the right one is answered 429 as well.",
            )
            .body::<Credentials>(&[(
                "customer",
                json!({ "login": "mina@example.org", "password": "correct horse" }),
            )])
            .problem(ProblemType::SignInAtShop)
            .problem(ProblemType::ShopUnreachable),
    )
}

fn sign_in_by_handoff() -> OperationDoc {
    session(
        OperationDoc::new("sign_in_by_handoff", TAG, "Sign in with a token of the shop")
            .describe(
                "For customers who are signed in at the shop already. A token works once. The problem's \
                `detail` names the part of the token that is wrong.",
            )
            .body::<HandoffRequest>(&[("token", json!({ "token": TOKEN }))])
            .problem(ProblemType::ShopUnreachable),
    )
    .problem_like(wrong_token())
}

fn wrong_token() -> Problem {
    Problem::new(ProblemType::WrongCredentials).detail("aud: must be or contain shop.handoff.audience")
}

fn deposit_handoff() -> OperationDoc {
    OperationDoc::new("deposit_handoff", TAG, "Deposit a token of the shop")
        .describe(
            "For the shop's server, before it sends its customer's browser back with the code. The token \
            itself proves who asks, and works once.",
        )
        .body::<HandoffRequest>(&[("token", json!({ "token": TOKEN }))])
        .json(
            201,
            "The code works once, for a minute, at any node.",
            &DepositedHandoff {
                code: CODE.to_owned(),
                expires_at: examples::at(60),
            },
        )
        .problem_like(wrong_token())
        .problem(ProblemType::ShopUnreachable)
}

fn sign_in_at_shop() -> OperationDoc {
    OperationDoc::new("sign_in_at_shop", TAG, "Go to the shop's sign-in")
        .describe(
            "A navigation. The shop's page (`shop.handoff.sign_in_url`) is opened with `state` and \
            `return_to`. It sends the browser back to `return_to` with the same `state`, and with a token \
            in a form or with a code.",
        )
        .query::<String>(
            "return_to",
            "The page to come back to afterwards: a path of this host.",
        )
        .empty(303, "To the shop.")
        .located("The shop's page, with `state` and `return_to`.")
        .sets_cookie("The state, for 10 minutes. Behind TLS it is the one cookie with `SameSite=None`.")
        .problem(ProblemType::NotFound)
}

fn return_from_shop_with_handoff() -> OperationDoc {
    OperationDoc::new(
        "return_from_shop_with_handoff",
        TAG,
        "Come back from the shop with a token",
    )
    .describe(
        "A form that the shop's page sends. Its `Origin` must be one of `shop.handoff.origins`, and its \
        `state` that of the cookie.",
    )
    .form::<HandoffForm>(&[("handoff", json!({ "token": TOKEN, "state": STATE }))])
    .empty(303, "The token is deposited.")
    .located("This address, with `code` and `state`.")
    .problem_like(wrong_token())
    .problems(&[
        ProblemType::CrossOrigin,
        ProblemType::NotFound,
        ProblemType::ShopUnreachable,
    ])
}

fn return_from_shop_with_code() -> OperationDoc {
    OperationDoc::new(
        "return_from_shop_with_code",
        TAG,
        "Come back from the shop with a code",
    )
    .describe(
        "A redirect of the shop, or of the form before. Its `state` must be that of the cookie. Without \
        `code` and `state` it leads back to the page that the visitor came from, who is not signed in then.",
    )
    .query::<String>("code", "The code of the deposited token.")
    .query::<String>("state", "The `state` that the shop's page was opened with.")
    .empty(303, "To the page that the visitor came from.")
    .located("That page; its fragment has the customer's name.")
    .sets_cookie("The session token; removes the state.")
    .problem_like(Problem::new(ProblemType::WrongCredentials).detail(USED_STATE))
    .problem(ProblemType::NotFound)
}

fn return_from_provider() -> OperationDoc {
    OperationDoc::new(
        "return_from_provider",
        TAG,
        "Come back from the shop's OpenID provider",
    )
    .describe(
        "The provider's redirect (`shop.oidc`). Its `state` must be that of the cookie. With `error` it \
        leads back to the page that the visitor came from, who is not signed in then.",
    )
    .query::<String>("code", "The provider's authorization code.")
    .query::<String>("state", "The state that the provider's page was opened with.")
    .query::<String>("error", "Why the provider gives no code.")
    .empty(303, "To the page that the visitor came from.")
    .located("That page; its fragment has the customer's name.")
    .sets_cookie("The session token; removes the state.")
    .problem_like(Problem::new(ProblemType::WrongCredentials).detail(USED_STATE))
    .problem(ProblemType::TooManyRequests)
    .problem(ProblemType::NotFound)
    .problem(ProblemType::ShopUnreachable)
}

fn session(operation: OperationDoc) -> OperationDoc {
    let example = SessionResponse {
        token: "v1.eyJzdWIiOiI0MiJ9.bWFj",
        expires_at: examples::at(43_200),
        customer: CustomerName { name: "Mina" },
    };
    operation
        .json(200, "The customer is signed in.", &example)
        .sets_cookie("The session token.")
        .problem(ProblemType::WrongCredentials)
}

fn sign_out() -> OperationDoc {
    OperationDoc::new("sign_out", TAG, "Sign out")
        .describe("Ends the session on every node.")
        .credentials(&[&[Credential::Session]])
        .empty(204, "The session has ended.")
        .sets_cookie("Removes the session cookie, and the customer's queue tokens and passes.")
        .problems(&[
            ProblemType::SignInRequired,
            ProblemType::CrossOrigin,
            ProblemType::TemporarilyUnavailable,
        ])
}

fn get_public_keys() -> OperationDoc {
    let key = Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: "pass-1".to_owned(),
        alg: "EdDSA".to_owned(),
        usage: "sig".to_owned(),
        x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
    };
    OperationDoc::new("get_public_keys", "integration", "Get the public keys")
        .describe("Public halves of the keys that sign admission passes, draw receipts and tickets.")
        .json(
            200,
            "A JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037).",
            &JwkSet { keys: &[key] },
        )
        .cache_control(JWKS_CACHE)
}

fn check_pass() -> OperationDoc {
    OperationDoc::new("check_pass", "integration", "Check an admission pass")
        .describe(
            "For a reverse proxy in front of a site that uses only the waiting room, such as nginx's \
            `auth_request`. In the second half of the pass's life the response sets a fresh one, \
            which the proxy passes on to the browser.",
        )
        .in_sale()
        .credentials(&[
            &[Credential::AdmissionPass],
            &[Credential::AdmissionPass, Credential::Session],
        ])
        .empty(204, "The visitor is admitted to the sale.")
        .sets_cookie("The admission pass, when it was renewed.")
        .problems(&[
            ProblemType::PassRequired,
            ProblemType::SignInRequired,
            ProblemType::NotOwner,
        ])
}
