//! Which service a crowd goes to, as the command line says.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use stagedoor::shop::HandoffIssuer;

/// The environment variable with the hand-off secret of the target's shop.
pub const HANDOFF_SECRET: &str = "STAGEDOOR_HANDOFF_SECRET";

/// `visit_max_s` of a service that is started.
pub const VISIT_MAX_S: u32 = 7_200;

/// Where a service keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// In the process and in SQLite files.
    Embedded,
    /// In Redis and PostgreSQL, which are started for the run.
    #[value(name = "redis+postgresql")]
    RedisPostgresql,
}

impl Backend {
    /// The name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::RedisPostgresql => "redis+postgresql",
        }
    }
}

/// When a join is acknowledged (`waiting_room.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// After the journal's commit.
    Committed,
    /// When the store has it; the commit follows.
    Async,
}

impl Durability {
    /// The name in the configuration and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Async => "async",
        }
    }
}

/// Who may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignIn {
    /// Anonymous visitors.
    None,
    /// Customers whom the shop hands over with a signed token.
    Handoff,
}

/// In which order visitors are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueOrder {
    /// In the order of joining.
    Fifo,
    /// By a draw half a minute after the on-sale start, with a beacon of the run's own.
    FairDraw,
}

/// Which service.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    /// A service that runs already, http://HOST:PORT; without it one is started for the run.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// Allow a target on another machine.
    #[arg(long)]
    pub allow_remote: bool,
    /// The target's sale, if it has several.
    #[arg(long, value_name = "ID")]
    pub sale: Option<String>,
    /// The target's data directory on this machine, so that the auditor can read its databases.
    #[arg(long, value_name = "DIR")]
    pub target_data: Option<PathBuf>,
    /// The issuer of the target's hand-off tokens (shop.handoff.issuer), if the sale requires a sign-in; the
    /// secret is read from STAGEDOOR_HANDOFF_SECRET.
    #[arg(long, value_name = "NAME", requires_all = ["target", "handoff_audience"])]
    pub handoff_issuer: Option<String>,
    /// The audience of the target's hand-off tokens (shop.handoff.audience).
    #[arg(long, value_name = "NAME", requires_all = ["target", "handoff_issuer"])]
    pub handoff_audience: Option<String>,
    /// Who may join a service that is started.
    #[arg(long, value_enum, default_value_t = SignIn::None)]
    pub sign_in: SignIn,
    /// In which order a service that is started admits those who join before the on-sale start.
    #[arg(long, value_enum, default_value_t = QueueOrder::Fifo)]
    pub queue_order: QueueOrder,
    /// The backend of a service that is started.
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    pub backend: Backend,
    /// When its joins are acknowledged.
    #[arg(long, value_enum, default_value_t = Durability::Committed)]
    pub durability: Durability,
    /// Its seats; 500 for a run, 66000 for a flash.
    #[arg(long)]
    pub seats: Option<u32>,
    /// Its admissions a minute.
    #[arg(long, value_name = "PER_MINUTE")]
    pub admission_rate: Option<u32>,
    /// Its limit of active visits.
    #[arg(long)]
    pub active_visits_max: Option<u32>,
    /// Seconds that its visits last at most (visit_max_s).
    #[arg(long, value_name = "SECONDS", default_value_t = VISIT_MAX_S)]
    pub visit_max: u32,
    /// Seconds that its holds last.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub hold_ttl: u32,
    /// CPU cores for the service (as taskset takes them), so that the crowd does not compete for them.
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Where its data are kept after the run; without it they are removed.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ServiceArgs {
    /// A service that is started for a measurement.
    #[must_use]
    pub fn started(backend: Backend, pin: Option<String>) -> Self {
        Self {
            target: None,
            allow_remote: false,
            sale: None,
            target_data: None,
            handoff_issuer: None,
            handoff_audience: None,
            sign_in: SignIn::None,
            queue_order: QueueOrder::Fifo,
            backend,
            durability: Durability::Committed,
            seats: None,
            admission_rate: None,
            active_visits_max: None,
            visit_max: VISIT_MAX_S,
            hold_ttl: 30,
            pin,
            data: None,
        }
    }

    /// The shop of a target that requires a sign-in.
    pub(super) fn target_shop(&self) -> anyhow::Result<Option<HandoffIssuer>> {
        let (Some(issuer), Some(audience)) = (&self.handoff_issuer, &self.handoff_audience) else {
            return Ok(None);
        };
        let secret = std::env::var(HANDOFF_SECRET)
            .ok()
            .filter(|secret| !secret.is_empty());
        let secret = secret.with_context(|| format!("--handoff-issuer: {HANDOFF_SECRET} is not set"))?;
        Ok(Some(HandoffIssuer {
            issuer: issuer.clone(),
            audience: audience.clone(),
            secret,
        }))
    }
}
