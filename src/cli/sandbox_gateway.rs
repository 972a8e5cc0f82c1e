//! `stagedoor sandbox-gateway`

use std::{net::SocketAddr, path::PathBuf};

use stagedoor::{app, ops::config};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Database file of its payment statement.
    #[arg(long, value_name = "FILE", default_value = "sandbox.db")]
    statement: PathBuf,
    /// Where it sends webhooks, signed with the secret in STAGEDOOR__GATEWAY__WEBHOOK_SECRET.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let secret = config::load(None, super::env())?.gateway.webhook_secret;
    app::block_on(app::sandbox_gateway(
        args.listen,
        args.statement,
        args.webhook_url,
        secret,
    ))
}
