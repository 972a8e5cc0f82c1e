//! `stagedoor serve`

use std::{net::SocketAddr, path::PathBuf};

use clap::ValueEnum;

use crate::{
    app::{self, Roles},
    ops::config,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file; every key is explained in config/stagedoor.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Overrides `server.listen`.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Overrides `server.admin_listen`.
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    /// Overrides `data.dir`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What this process serves; everything else is answered 404 here.
    #[arg(long, value_enum, default_value_t = RolesArg::All)]
    roles: RolesArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum RolesArg {
    /// Queue, status and admission.
    WaitingRoom,
    /// Seats, orders and tickets.
    BoxOffice,
    /// Both.
    All,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut settings = config::load(Some(&args.config), super::env())?;
    settings.server.listen = args.listen.unwrap_or(settings.server.listen);
    settings.server.admin_listen = args.admin_listen.unwrap_or(settings.server.admin_listen);
    settings.data.dir = args.data.unwrap_or(settings.data.dir);
    settings.check()?;
    let roles = match args.roles {
        RolesArg::WaitingRoom => Roles::WaitingRoom,
        RolesArg::BoxOffice => Roles::BoxOffice,
        RolesArg::All => Roles::All,
    };
    app::block_on(app::serve(settings, roles))
}
