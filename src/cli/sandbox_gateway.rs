//! `stagedoor sandbox-gateway`

use std::{net::SocketAddr, path::PathBuf};

use crate::{app, ops::config};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Database file of its payment statement.
    #[arg(long, value_name = "FILE", default_value = "sandbox.db")]
    statement: PathBuf,
    /// The configuration of the installation whose `gateway.webhook_secret` it signs with; without one only
    /// STAGEDOOR__GATEWAY__WEBHOOK_SECRET is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where it sends webhooks, signed with that secret.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    // Without a file, variables of other sections belong to a configuration that is not here.
    let is_ours = |key: &str| args.config.is_some() || key.starts_with("STAGEDOOR__GATEWAY__");
    let env = super::env().filter(|(key, _)| is_ours(key));
    let secret = config::load(args.config.as_deref(), env)?.gateway.webhook_secret;
    app::block_on(app::sandbox_gateway(
        args.listen,
        args.statement,
        args.webhook_url,
        secret,
    ))
}
