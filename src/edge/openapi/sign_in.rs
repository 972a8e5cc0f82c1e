//! Operations of signing in, and those for other programs.

use serde_json::json;

use super::{examples, operation::OperationDoc, security::Credential};
use crate::{
    edge::{
        errors::problem::ProblemType,
        handlers::{
            forward_auth::{JWKS_CACHE, JwkSet},
            sign_in::{Credentials, CustomerName, HandoffRequest, SessionResponse},
        },
    },
    platform::signing::Jwk,
};

const TAG: &str = "sign-in";

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![
        sign_in(),
        sign_in_by_handoff(),
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
            .describe("For customers who are signed in at the shop already. A token works once.")
            .body::<HandoffRequest>(&[(
                "token",
                json!({ "token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiI0MiJ9.c2ln" }),
            )])
            .problem(ProblemType::ShopUnreachable),
    )
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
