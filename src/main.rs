//! The command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use stagedoor::{
    app::{self, Roles, audit::Elsewhere, demo::DemoOptions, rehearse::RehearseOptions},
    kernel::{OsEntropy, SaleId},
    ops::{self, config, draws::Beside},
    seating::VenueKind,
    waiting_room::JournalPlace,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A waiting room that can be believed, and a box office that cannot sell a seat twice.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoArgs,
}

#[derive(Subcommand)]
enum Command {
    /// A demo sale that opens a minute from now, with a shop, a payment gateway and, if wanted, a crowd.
    Demo(DemoArgs),
    /// Serves the sales of a configuration.
    Serve(ServeArgs),
    /// Seating plans.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tickets.
    #[command(subcommand)]
    Ticket(TicketCommand),
    /// Fair draws, computed again from what was published.
    #[command(subcommand)]
    Draw(DrawCommand),
    /// Makes a token for an operator, and the hash of it for the configuration.
    OperatorToken,
    /// The audit log: everything that happened to a queue, as it was written down.
    #[command(subcommand)]
    Log(LogCommand),
    /// Judges a sale by its books: no seat twice, no money without tickets, nobody in beyond rate and capacity.
    Audit(AuditArgs),
    /// Rehearses whole sales in virtual time: whether the door keeps its promises and what its estimates are worth.
    Rehearse(RehearseArgs),
    /// A payment gateway that moves no money and misbehaves on demand.
    SandboxGateway(GatewayArgs),
}

#[derive(Args)]
struct DemoArgs {
    /// Address and port of the fans' pages; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address and port for operators; never make it public.
    #[arg(long, default_value = "127.0.0.1:9090")]
    ops_listen: SocketAddr,
    /// Where the sale is kept; the same directory goes on with the same sale. A new one when not given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seconds until fans are called.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    open_in: u32,
    /// Seconds until fans may take a place.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    prequeue_in: u32,
    /// Seats on the plan.
    #[arg(long, default_value_t = 15_000)]
    seats: u32,
    /// Simulated fans who queue, choose and buy at a human pace.
    #[arg(long, value_name = "FANS", default_value_t = 0)]
    crowd: u32,
    /// Entries a minute.
    #[arg(long, value_name = "PER_MINUTE", default_value_t = 600)]
    rate: u32,
    /// Visitors behind the door at once.
    #[arg(long, default_value_t = 500)]
    capacity: u32,
    /// Draws the order of all who come before the opening, a minute after it, by a beacon of its own.
    #[arg(long)]
    fair_draw: bool,
}

#[derive(Args)]
struct ServeArgs {
    /// The configuration; every key is explained in config/stagedoor.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Instead of `server.listen`.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Instead of `server.ops_listen`.
    #[arg(long)]
    ops_listen: Option<SocketAddr>,
    /// Instead of `data.dir`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What this process serves; what it does not serve is answered 404 here.
    #[arg(long, value_enum, default_value_t = RolesArg::All)]
    roles: RolesArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum RolesArg {
    /// Places, board and door.
    WaitingRoom,
    /// Seats, orders and tickets.
    BoxOffice,
    All,
}

#[derive(Subcommand)]
enum PlanCommand {
    /// Says everything that is wrong with a seating plan (pretix format).
    Check { file: PathBuf },
    /// Writes a seating plan to standard output.
    Generate {
        kind: Venue,
        #[arg(long)]
        seats: u32,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Venue {
    Theatre,
    Arena,
    Stadium,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Prints what is in force; secrets are not shown.
    Show {
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum TicketCommand {
    /// Says whether a ticket's code is genuine, and what it is for.
    Verify {
        /// What the QR code holds.
        code: String,
        /// The keys, as `/.well-known/jwks.json` gives them.
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
}

#[derive(Subcommand)]
enum DrawCommand {
    /// Prints the order of a draw: a line for each entry, its arrival number and its queue number, both from 1.
    Order {
        /// The draw seed, 64 hexadecimal digits.
        #[arg(long, value_name = "HEX")]
        seed: String,
        /// How many are in the draw.
        #[arg(long)]
        entries: u32,
    },
    /// Says which value of a published draw is wrong, if any is.
    Verify {
        /// What `GET /v1/sales/{sale}/draw` gives; it may hold the list of `leaves` too.
        file: PathBuf,
        /// What `GET /v1/sales/{sale}/draw/entries` gives, packed or as JSON.
        #[arg(long, value_name = "FILE")]
        leaves: Option<PathBuf>,
        /// What `GET /v1/sales/{sale}/draw/receipt` gave to one fan, before the draw or after it.
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
        /// The house's public keys, as `GET /.well-known/jwks.json` gives them: with them the receipt's signature is checked.
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum LogCommand {
    /// Reckons the chain of hashes over the queue's journal again, and names the first link that is wrong. It only reads.
    Verify(LogArgs),
    /// Prints the queue's journal, a record a line, as JSON.
    Show {
        #[command(flatten)]
        at: JournalAt,
        /// One sale instead of all.
        #[arg(long, value_name = "ID")]
        sale: Option<String>,
        /// Records of one kind only: operator, called, entered, phase, slowed...
        #[arg(long)]
        kind: Option<String>,
    },
}

#[derive(Args)]
struct LogArgs {
    #[command(flatten)]
    at: JournalAt,
    /// A link that the board showed once, and its hash: a log that was cut or written anew since is found out by it.
    #[arg(long, value_name = "LINK:HEX")]
    head: Option<String>,
    /// One sale instead of all.
    #[arg(long, value_name = "ID")]
    sale: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct JournalAt {
    /// The queue's journal: sqlite:FILE or postgres://... A password is best left to PGPASSWORD or ~/.pgpass.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// The data directory of a house that keeps its journal there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args)]
struct AuditArgs {
    /// The data directory of a house, running or not.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration whose sales are judged; the demo's own when not given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger, where it is not in the data directory: sqlite:FILE or postgres://... A password is best left to
    /// PGPASSWORD or ~/.pgpass, where other users of the machine do not see it.
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// The queue's journal, likewise.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
}

#[derive(Args)]
struct RehearseArgs {
    /// Which sale; an unknown name is answered with those that there are.
    #[arg(long, value_name = "NAME|all", default_value = "all")]
    scenario: String,
    #[arg(long, default_value_t = 20_000)]
    fans: u32,
    /// The same seed gives the same sale.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sales of each scenario, with seeds from `--seed` on.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    seeds: u32,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Leaves a page with plots there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct GatewayArgs {
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where its book is kept.
    #[arg(long, value_name = "FILE", default_value = "sandbox.db")]
    book: PathBuf,
    /// Where it sends its webhooks; they are signed with the secret in STAGEDOOR__GATEWAY__WEBHOOK_SECRET.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("stagedoor: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn journal_at(at: JournalAt) -> anyhow::Result<JournalPlace> {
    match (at.journal, at.data) {
        (Some(url), _) => ops::journal_cli::place(&url).context("--journal"),
        (None, data) => Ok(JournalPlace::File(data.unwrap_or_default().join("queue.db"))),
    }
}

fn sale_named(id: Option<String>) -> anyhow::Result<Option<SaleId>> {
    id.map(|id| {
        id.parse()
            .map_err(|_| anyhow::anyhow!("--sale: {id} is no sale's name"))
    })
    .transpose()
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let env = || {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
    };
    match cli.command.unwrap_or(Command::Demo(cli.demo)) {
        Command::Demo(args) => {
            let settings = config::load(None, env())?;
            let stands_behind = env().any(|(key, _)| key == "STAGEDOOR__SERVER__PUBLIC_BASE");
            let options = DemoOptions {
                listen: args.listen,
                ops_listen: args.ops_listen,
                data: args.data,
                public_base: stands_behind.then(|| settings.server.public_base.clone()),
                open_in_s: args.open_in,
                prequeue_in_s: args.prequeue_in,
                seats: args.seats,
                crowd: args.crowd,
                rate_per_minute: args.rate,
                capacity: args.capacity,
                fair_draw: args.fair_draw,
            };
            app::block_on(app::demo::run(options, settings))
        }
        Command::Serve(args) => {
            let mut settings = config::load(Some(&args.config), env())?;
            settings.server.listen = args.listen.unwrap_or(settings.server.listen);
            settings.server.ops_listen = args.ops_listen.unwrap_or(settings.server.ops_listen);
            settings.data.dir = args.data.unwrap_or(settings.data.dir);
            settings.check()?;
            let roles = match args.roles {
                RolesArg::WaitingRoom => Roles::WaitingRoom,
                RolesArg::BoxOffice => Roles::BoxOffice,
                RolesArg::All => Roles::All,
            };
            app::block_on(app::serve(settings, roles))
        }
        Command::Plan(PlanCommand::Check { file }) => ops::plans::check(&file),
        Command::Plan(PlanCommand::Generate { kind, seats }) => {
            let kind = match kind {
                Venue::Theatre => VenueKind::Theatre,
                Venue::Arena => VenueKind::Arena,
                Venue::Stadium => VenueKind::Stadium,
            };
            println!("{}", ops::plans::generate(kind, seats)?);
            Ok(())
        }
        Command::Config(ConfigCommand::Show { config: file }) => {
            print!("{}", config::show(&config::load(file.as_deref(), env())?));
            Ok(())
        }
        Command::Ticket(TicketCommand::Verify { code, jwks }) => ops::tickets::verify(&code, &jwks),
        Command::Draw(DrawCommand::Order { seed, entries }) => ops::draws::order(&seed, entries),
        Command::Draw(DrawCommand::Verify {
            file,
            leaves,
            receipt,
            keys,
        }) => {
            let beside = Beside {
                leaves: leaves.as_deref(),
                receipt: receipt.as_deref(),
                keys: keys.as_deref(),
            };
            ops::draws::verify(&file, beside)
        }
        Command::OperatorToken => {
            let (token, hash) = ops::admin::operators::new_token(&OsEntropy);
            println!("token: {token}\n[operators]\nNAME = \"{hash}\"");
            Ok(())
        }
        Command::Log(LogCommand::Verify(LogArgs { at, head, sale })) => {
            let (place, sale) = (journal_at(at)?, sale_named(sale)?);
            let head = head
                .map(|text| ops::journal_cli::head(&text).context("--head"))
                .transpose()?;
            app::block_on(async move { ops::journal_cli::verify(&place, sale.as_ref(), head).await })
        }
        Command::Log(LogCommand::Show { at, sale, kind }) => {
            let (place, sale) = (journal_at(at)?, sale_named(sale)?);
            app::block_on(async move { ops::journal_cli::show(&place, sale.as_ref(), kind.as_deref()).await })
        }
        Command::Audit(args) => {
            let sales = match &args.config {
                Some(file) => config::load(Some(file), env())?.sales,
                None => Vec::new(),
            };
            let elsewhere = Elsewhere {
                ledger: args.ledger,
                journal: args.journal,
            };
            app::block_on(app::audit::run(&args.data, &elsewhere, sales))
        }
        Command::Rehearse(args) => app::rehearse::run(&RehearseOptions {
            scenario: args.scenario,
            fans: args.fans,
            seed: args.seed,
            seeds: args.seeds,
            json: args.json,
            out: args.out,
        }),
        Command::SandboxGateway(args) => {
            let secret = config::load(None, env())?.gateway.webhook_secret;
            app::block_on(app::sandbox_gateway(
                args.listen,
                args.book,
                args.webhook_url,
                secret,
            ))
        }
    }
}
