//! `stagedoor openapi`

use crate::{edge, ops::admin};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The admin API instead of the public one.
    #[arg(long)]
    admin: bool,
}

pub(super) fn run(args: &Args) {
    let document = if args.admin {
        admin::openapi::admin_document()
    } else {
        edge::openapi::public_document("")
    };
    println!("{document:#}");
}
