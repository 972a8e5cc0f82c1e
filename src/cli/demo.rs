//! `stagedoor demo`

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    app::{self, demo::DemoOptions},
    ops::config,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Address and port of the public pages; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address and port of the admin listener; never expose it to the public.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// Data directory of the sale; the same directory resumes the same sale. A new one by default.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seconds until visitors are called.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    open_in: u32,
    /// Seconds until visitors may join the queue.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    prequeue_in: u32,
    /// Seats of the plan.
    #[arg(long, default_value_t = 15_000)]
    seats: u32,
    /// Simulated fans who queue, choose and buy at a human pace.
    #[arg(long, value_name = "FANS", default_value_t = 0)]
    crowd: u32,
    /// Admissions a minute.
    #[arg(long, value_name = "PER_MINUTE", default_value_t = 600)]
    admission_rate: u32,
    /// Visits that may be active at once.
    #[arg(long, value_name = "VISITS", default_value_t = 500)]
    active_visits_max: u32,
    /// Draws the order of all who join before the sale starts, a minute after the start, with a sandbox
    /// beacon.
    #[arg(long)]
    fair_draw: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let settings = config::load(None, super::env())?;
    let is_behind_proxy = super::env().any(|(key, _)| key == "STAGEDOOR__SERVER__PUBLIC_BASE");
    let options = DemoOptions {
        listen: args.listen,
        admin_listen: args.admin_listen,
        data: args.data,
        public_base: is_behind_proxy.then(|| settings.server.public_base.clone()),
        open_in_s: args.open_in,
        prequeue_in_s: args.prequeue_in,
        seats: args.seats,
        crowd: args.crowd,
        admission_rate_per_minute: args.admission_rate,
        active_visits_max: args.active_visits_max,
        fair_draw: args.fair_draw,
    };
    app::block_on(app::demo::run(options, settings))
}
