//! `stagedoor operator-token`

use crate::{kernel::OsEntropy, ops::admin::operators};

pub(super) fn run() {
    let (token, hash) = operators::new_token(&OsEntropy);
    println!("token: {token}\n[operators]\nNAME = \"{hash}\"");
}
