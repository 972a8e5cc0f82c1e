//! The table of figures, each over the floor that it stands on: measured in one run, on one machine, by turns.
//!
//! A figure's two sides take turns, a second each; the ratio is taken of each pair, and the median of the pairs is told with
//! the interval that holds the true median nineteen times of twenty (for nine pairs: the second least to the second most).
//! Client, house, floor, Redis and PostgreSQL share the machine, so a ratio says what the whole way costs.

mod alone;
mod fill;
mod held;
mod lab;
mod origin;
mod pipeline;
mod sides;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use stagedoor::simulate;

use self::{
    lab::Lab,
    sides::{CONNECTIONS_MAX, PAIRS, Pairs, Side, compare, compare_by},
};
use crate::{
    ground::{Durability, Engine, Servers},
    overload::OverloadResult,
    process::{Process, machine},
    watchers::{self, WatchersArgs},
};

/// Which figures, and how often.
#[derive(Args, Clone, Debug)]
pub struct RatiosArgs {
    /// Only these: join, board, place, hold, seats, memory, growth, watchers, origin, forecast, overload.
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    pub only: Vec<String>,
    /// The whole table so many times, with the spread; what the dice alone decide, once.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Measure only what --out lacks of the same machine and program: a long measurement may be broken off, or come in parts.
    #[arg(long)]
    pub go_on: bool,
    /// JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The table as the README has it.
    #[arg(long)]
    pub markdown: bool,
    /// Fans whose memory is weighed; four times as many are declared as one.
    #[arg(long, default_value_t = 1_000_000)]
    pub fans: u32,
    /// Seeds of each rehearsed scenario.
    #[arg(long, default_value_t = 25)]
    pub seeds: u32,
    /// Minutes that the watchers watch.
    #[arg(long, default_value_t = 1.0)]
    pub watch_minutes: f64,
    /// How many join at once: few wait for each commit, many share it.
    #[arg(long, value_delimiter = ',', value_name = "CONNECTIONS", default_values_t = [64, 256])]
    pub joining: Vec<usize>,
    /// Where ratios.json is left.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

pub const FIGURES: [&str; 11] = [
    "join", "board", "place", "hold", "seats", "memory", "growth", "watchers", "origin", "forecast",
    "overload",
];

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub figure: String,
    pub engine: String,
    /// The median; a ratio unless the unit says otherwise.
    pub value: f64,
    /// Of the pairs, the interval; of one measurement, nothing.
    pub interval: Option<(f64, f64)>,
    /// Over several repetitions, the least and the most.
    pub spread: Option<(f64, f64)>,
    pub unit: String,
    /// What must be reached, if anything, and whether more is better.
    pub goal: Option<f64>,
    pub more_is_better: bool,
    /// A second: ours, the floor's.
    pub rates: Option<(f64, f64)>,
    /// Microseconds of the server's own CPU each: ours, the floor's.
    pub cpu_us: Option<(f64, f64)>,
    pub floor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub machine: String,
    pub version: String,
    pub pairs: usize,
    pub round_s: f64,
    pub repeats: u32,
    /// Which figures were asked for.
    pub figures: Vec<String>,
    pub rows: Vec<Row>,
    /// Figures that could not be measured here, and why.
    pub not_measured: Vec<String>,
}

impl Row {
    fn of_pairs(
        figure: impl Into<String>,
        engine: &str,
        pairs: &Pairs,
        goal: Option<f64>,
        floor: &str,
    ) -> Self {
        Self {
            figure: figure.into(),
            engine: engine.to_owned(),
            value: pairs.ratio(),
            interval: Some(pairs.interval()),
            spread: None,
            unit: "ratio".to_owned(),
            goal,
            more_is_better: true,
            rates: Some(pairs.rates()),
            cpu_us: pairs.cpu_us(),
            floor: floor.to_owned(),
        }
    }

    fn plain(
        figure: &str,
        engine: &str,
        value: f64,
        unit: &str,
        goal: Option<f64>,
        more_is_better: bool,
    ) -> Self {
        Self {
            figure: figure.to_owned(),
            engine: engine.to_owned(),
            value,
            interval: None,
            spread: None,
            unit: unit.to_owned(),
            goal,
            more_is_better,
            rates: None,
            cpu_us: None,
            floor: String::new(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.figure == other.figure && self.engine == other.engine
    }

    /// Whether the goal is reached; `None` without one.
    pub fn reaches(&self) -> Option<bool> {
        self.goal.map(|goal| {
            if self.more_is_better {
                self.value >= goal
            } else {
                self.value <= goal
            }
        })
    }
}

/// Measures and tells. Falling short of a goal is told, and is no failure of the measurement.
pub async fn run(args: RatiosArgs) -> anyhow::Result<ExitCode> {
    if let Some(unknown) = args.only.iter().find(|it| !FIGURES.contains(&it.as_str())) {
        bail!("--only {unknown}: there are {}", FIGURES.join(", "));
    }
    if args.repeat == 0 || args.fans == 0 {
        bail!("--repeat and --fans: must be at least 1");
    }
    if args.joining.iter().any(|it| !(1..=CONNECTIONS_MAX).contains(it)) {
        bail!("--joining: from 1 to {CONNECTIONS_MAX}");
    }
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let mut tables = if args.go_on {
        earlier(&args.out)?
    } else {
        Vec::new()
    };
    for n in 0..args.repeat as usize {
        let missing = missing(&args.only, n, tables.get(n));
        if missing.is_empty() {
            continue;
        }
        eprintln!("repetition {} of {}: {}", n + 1, args.repeat, missing.join(", "));
        let table = measure(&args, &missing).await?;
        match tables.get_mut(n) {
            Some(before) => before.add(table),
            None => tables.push(table),
        }
        // What is done is kept, should a later repetition break off.
        fs::write(
            args.out.join("repetitions.json"),
            serde_json::to_vec_pretty(&tables)?,
        )?;
        fs::write(
            args.out.join("ratios.json"),
            serde_json::to_vec_pretty(&together(&tables))?,
        )?;
    }
    let table = together(&tables);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("{}", told(&table, args.markdown));
    }
    Ok(ExitCode::SUCCESS)
}

/// What of a repetition is still to be measured. The dice alone decide what is forecast, so once is enough.
fn missing(only: &[String], repetition: usize, before: Option<&Table>) -> Vec<&'static str> {
    let is_wanted = |figure: &str| only.is_empty() || only.iter().any(|it| it == figure);
    let is_there = |figure: &str| before.is_some_and(|it| it.figures.iter().any(|it| it == figure));
    let all = FIGURES
        .into_iter()
        .filter(|figure| is_wanted(figure) && !is_there(figure));
    all.filter(|figure| repetition == 0 || *figure != "forecast")
        .collect()
}

/// Repetitions that were measured before.
fn earlier(out: &Path) -> anyhow::Result<Vec<Table>> {
    let file = out.join("repetitions.json");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("--go-on: cannot read {}", file.display())),
    };
    let tables: Vec<Table> =
        serde_json::from_slice(&text).with_context(|| format!("--go-on: {}", file.display()))?;
    match tables
        .iter()
        .find(|it| it.machine != machine() || it.version != env!("CARGO_PKG_VERSION"))
    {
        Some(other) => bail!(
            "--go-on: {} has figures of {}, stagedoor {}",
            file.display(),
            other.machine,
            other.version
        ),
        None => Ok(tables),
    }
}

async fn measure(args: &RatiosArgs, figures: &[&str]) -> anyhow::Result<Table> {
    let wants = |figure: &str| figures.contains(&figure);
    let mut table = Table {
        machine: machine(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pairs: PAIRS,
        round_s: sides::ROUND.as_secs_f64(),
        repeats: 1,
        figures: figures.iter().map(|it| (*it).to_owned()).collect(),
        rows: Vec::new(),
        not_measured: Vec::new(),
    };
    if wants("seats") {
        table.rows.extend(alone::rows());
    }
    over_http(args, &wants, &mut table).await?;
    if wants("watchers") {
        let watching = WatchersArgs {
            count: 10_000,
            minutes: args.watch_minutes,
            engine: Engine::Memory,
            pin: None,
            out: args.out.clone(),
        };
        match watchers::measure(&watching).await {
            Ok(it) => {
                let seen = it.seen;
                table.rows.push(Row::plain(
                    "memory per SSE watcher, of 10,000",
                    "memory",
                    it.rss_bytes_each,
                    "B",
                    Some(16_384.0),
                    false,
                ));
                table.rows.push(Row::plain(
                    "kernel memory per watcher, both ends",
                    "memory",
                    it.kernel_bytes_each,
                    "B",
                    None,
                    false,
                ));
                table.rows.push(Row::plain(
                    "CPU per watcher and board",
                    "memory",
                    it.cpu_us_each_board,
                    "us",
                    None,
                    false,
                ));
                table.rows.push(Row::plain(
                    "boards received over boards due",
                    "memory",
                    ratio(seen.received, seen.due),
                    "ratio",
                    Some(1.0),
                    true,
                ));
            }
            Err(why) => table.not_measured.push(format!("watchers: {why:#}")),
        }
    }
    if wants("forecast") {
        forecast(args, &mut table).await?;
    }
    if wants("overload") {
        match overloaded(args).await {
            Ok(it) => {
                let goodput = "goodput at 10x the saturating load over the peak";
                let row = Row::plain(goodput, "memory", it.goodput_ratio, "ratio", Some(0.9), true);
                let tickets = it.stages.last().map(|ten| (ten.goodput_per_s, it.peak_per_s));
                table.rows.push(Row {
                    rates: tickets,
                    floor: "tickets; the house on one core".to_owned(),
                    ..row
                });
                table.rows.push(Row::plain(
                    "refusals at 10x, median",
                    "memory",
                    it.refusal_p50_ms,
                    "ms",
                    Some(5.0),
                    false,
                ));
            }
            Err(why) => table.not_measured.push(format!("overload: {why:#}")),
        }
    }
    Ok(table)
}

/// By a process of its own: the house has one core to itself, the crowd another, where there are two.
async fn overloaded(args: &RatiosArgs) -> anyhow::Result<OverloadResult> {
    let out = args.out.to_str().context("--out: must be UTF-8")?;
    let (house, crowd) = if std::thread::available_parallelism()?.get() > 1 {
        (&["--pin", "0"][..], Some("1"))
    } else {
        (&[][..], None)
    };
    let asked = [
        &["overload", "--from", "200", "--factors", "0.5,1,2", "--out", out],
        house,
    ]
    .concat();
    let file = args.out.join("overload.json");
    let _ = fs::remove_file(&file);
    let mut measuring = Process::start("the overload", &asked, crowd)?;
    let ended = loop {
        match measuring.ended() {
            Some(how) => break how,
            None => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    // It fails when a goal is missed, too.
    let text = fs::read(&file).with_context(|| ended)?;
    serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
}

#[expect(clippy::cast_precision_loss, reason = "boards of minutes")]
fn ratio(of: u64, over: u64) -> f64 {
    of as f64 / over.max(1) as f64
}

/// Everything that needs a house and a floor beside it, engine by engine.
async fn over_http(
    args: &RatiosArgs,
    wants: &impl Fn(&str) -> bool,
    table: &mut Table,
) -> anyhow::Result<()> {
    if !["join", "board", "place", "hold", "memory", "growth", "origin"]
        .iter()
        .any(|it| wants(it))
    {
        return Ok(());
    }
    let lab = Lab::open(Engine::Memory, Durability::Journaled, None).await?;
    of_one(&lab, Some(0.85), true, args, wants, table).await?;
    if wants("join") {
        let lab = lab.reopened(Durability::Acknowledged).await?;
        of_one(&lab, Some(0.9), false, args, &|it: &str| it == "join", table).await?;
    } else {
        drop(lab);
    }
    let servers = match Servers::start().await {
        Ok(servers) => servers,
        Err(why) => {
            table
                .not_measured
                .push(format!("everything on Redis and PostgreSQL: {why:#}"));
            return Ok(());
        }
    };
    let lab = Lab::open(Engine::Redis, Durability::Acknowledged, Some(servers)).await?;
    of_one(&lab, Some(0.8), true, args, wants, table).await?;
    if wants("join") {
        let lab = lab.reopened(Durability::Journaled).await?;
        of_one(&lab, None, false, args, &|it: &str| it == "join", table).await?;
    }
    Ok(())
}

/// A figure of joins, if it could be measured: more of them than it can answer in time, the house turns away.
fn take(
    table: &mut Table,
    figure: String,
    engine: &str,
    pairs: anyhow::Result<Pairs>,
    goal: Option<f64>,
    floor: &str,
) {
    match pairs {
        Ok(pairs) => table
            .rows
            .push(Row::of_pairs(figure, engine, &pairs, goal, floor)),
        Err(why) => table.not_measured.push(format!("{figure}, {engine}: {why:#}")),
    }
    say(table);
}

const BARE: &str = "a bare axum route of as many bytes";

/// The figures of one house. `whole`: also those that its durability has nothing to do with.
async fn of_one(
    lab: &Lab,
    join_goal: Option<f64>,
    whole: bool,
    args: &RatiosArgs,
    wants: &impl Fn(&str) -> bool,
    table: &mut Table,
) -> anyhow::Result<()> {
    let engine = lab.engine.name();
    let joins = |sale: &str| Side::post(&lab.house, &format!("/v1/sales/{sale}/queue"));
    if wants("join") {
        for &connections in &args.joining {
            let figure = format!("join, {}, {connections} at once", lab.durability.name());
            let pairs = compare_by(connections, &joins("empty"), &lab.bare(&joins("empty")).await?).await;
            take(table, figure, engine, pairs, join_goal, BARE);
        }
    }
    if whole
        && wants("join")
        && let Some(servers) = &lab.servers
    {
        Lab::let_in(&joins("empty")).await?;
        let pairs = pipeline::compare(&joins("empty"), &servers.redis.url()).await;
        let one = "commands of a bare Redis pipeline, 64 at once, each writing a field";
        take(
            table,
            format!("join, {}, beside a pipeline", lab.durability.name()),
            engine,
            pairs,
            None,
            one,
        );
    }
    let place = Side::get_each(
        &lab.house,
        "/v1/sales/empty/queue/place",
        "queue-token",
        &lab.tokens("empty").await?,
    );
    if whole && wants("place") {
        let pairs = compare(&place, &lab.bare(&place).await?).await?;
        table.rows.push(Row::of_pairs(
            "place, with the token verified",
            engine,
            &pairs,
            Some(0.85),
            BARE,
        ));
        say(table);
    }
    if whole && wants("board") {
        let board = Side::get(&lab.house, "/v1/sales/empty/board");
        let pairs = compare(&board, &lab.bytes(&board).await?).await?;
        let sent = "a bare axum route of as many bytes, made beforehand";
        table
            .rows
            .push(Row::of_pairs("board", engine, &pairs, Some(0.95), sent));
        say(table);
    }
    if whole && wants("hold") {
        let (pairs, floor, goal) = match lab.engine {
            Engine::Redis => (
                held::pairs(lab).await?,
                "a minimal axum handler around a minimal all-or-none script",
                Some(0.85),
            ),
            Engine::Memory => (
                held::pairs(lab).await?,
                "a minimal axum handler around a lock and a set",
                None,
            ),
        };
        table.rows.push(Row::of_pairs(
            "hold of 4 seats, over HTTP",
            engine,
            &pairs,
            goal,
            floor,
        ));
        say(table);
    }
    if whole && wants("memory") {
        fill::weigh(lab, args.fans, table).await?;
        say(table);
    }
    if whole && wants("growth") {
        let (grown, _) = lab.grown("fourfold", args.fans.saturating_mul(4)).await?;
        let replay = format!(
            "a node that starts with {} joins in its journal is ready after",
            args.fans.saturating_mul(4)
        );
        table.rows.push(Row::plain(
            &replay,
            engine,
            grown.ready_after.as_secs_f64(),
            "s",
            None,
            false,
        ));
        let full = Side::post(&grown.house, "/v1/sales/fourfold/queue");
        let pairs = compare(&full, &Side::post(&grown.house, "/v1/sales/empty/queue")).await?;
        let none = "the same while nobody waits";
        table.rows.push(Row::of_pairs(
            format!("join while {} wait", args.fans.saturating_mul(4)),
            engine,
            &pairs,
            Some(0.95),
            none,
        ));
        let of = |sale: &str, tokens: &[String]| {
            Side::get_each(
                &grown.house,
                &format!("/v1/sales/{sale}/queue/place"),
                "queue-token",
                tokens,
            )
        };
        let (in_full, in_empty) = (
            of("fourfold", &grown.tokens("fourfold").await?),
            of("empty", &grown.tokens("empty").await?),
        );
        let pairs = compare(&in_full, &in_empty).await?;
        table.rows.push(Row::of_pairs(
            format!("place while {} wait", args.fans.saturating_mul(4)),
            engine,
            &pairs,
            Some(0.95),
            none,
        ));
        say(table);
    }
    if whole && wants("origin") {
        match origin::asked_each(lab, 20_000, Duration::from_mins(1)).await {
            Ok(each) => table.rows.push(Row::plain(
                "requests of a waiting fan at the node, behind nginx",
                engine,
                each,
                "requests",
                Some(1.0),
                false,
            )),
            Err(why) => table.not_measured.push(format!("origin, {engine}: {why:#}")),
        }
    }
    Ok(())
}

/// The door in virtual time: slots in use, and what forecasts are worth.
async fn forecast(args: &RatiosArgs, table: &mut Table) -> anyhow::Result<()> {
    let (mut all, mut plain_use) = (Vec::new(), None);
    for scenario in simulate::named("all")? {
        let mut runs = Vec::new();
        for seed in 0..args.seeds {
            runs.push(simulate::rehearse(scenario, 20_000, u64::from(seed) + 1).await?);
        }
        let verdict = simulate::judge(scenario, &runs);
        eprintln!(
            "{}: coverage {:?}, slots {:?}",
            scenario.name, verdict.figures.worth.coverage, verdict.figures.slot_use
        );
        if scenario.name.contains("absent") {
            plain_use = verdict.figures.slot_use;
        }
        all.extend(runs);
    }
    let pooled = simulate::figures(&all);
    let runs = format!("rehearsed, {} sales", pooled.runs);
    for (figure, value, goal, more) in [
        (
            "slot use after ramp-up, many absent",
            plain_use.or(pooled.slot_use),
            Some(0.98),
            true,
        ),
        (
            "share of waits within p10 to p90 (0.77 to 0.83)",
            pooled.worth.coverage,
            None,
            true,
        ),
        (
            "interval score over position / rate",
            pooled.worth.interval_score_ratio,
            Some(0.6),
            false,
        ),
        ("median error of p50", pooled.worth.p50_error, Some(0.1), false),
    ] {
        match value {
            Some(value) => table
                .rows
                .push(Row::plain(figure, &runs, value, "ratio", goal, more)),
            None => table
                .not_measured
                .push(format!("{figure}: no sale gave anything to measure it by")),
        }
    }
    Ok(())
}

/// Says the youngest row, as a table takes long.
fn say(table: &Table) {
    if let Some(row) = table.rows.last() {
        eprint!("{}", line(row, false));
    }
}

impl Table {
    /// What was measured of the same repetition later.
    fn add(&mut self, more: Self) {
        self.figures.extend(more.figures);
        self.rows.extend(more.rows);
        self.not_measured.extend(more.not_measured);
    }
}

/// Several tables as one: medians of medians, with their spread.
fn together(tables: &[Table]) -> Table {
    let mut all = tables[0].clone();
    all.repeats = u32::try_from(tables.len()).unwrap_or(u32::MAX);
    for later in &tables[1..] {
        let is_news = |row: &&Row| !all.rows.iter().any(|it| it.is_same(row));
        let news: Vec<Row> = later.rows.iter().filter(is_news).cloned().collect();
        all.rows.extend(news);
        all.not_measured.extend(
            later
                .not_measured
                .iter()
                .filter(|why| !all.not_measured.contains(why))
                .cloned()
                .collect::<Vec<_>>(),
        );
    }
    for row in &mut all.rows {
        let mut same: Vec<&Row> = tables
            .iter()
            .filter_map(|table| table.rows.iter().find(|it| it.is_same(row)))
            .collect();
        same.sort_by(|a, b| a.value.total_cmp(&b.value));
        let spread = (same.len() > 1).then(|| (same[0].value, same[same.len() - 1].value));
        // With the rates that belong to it.
        *row = Row {
            spread,
            ..same[same.len() / 2].clone()
        };
    }
    all
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => format!("{value:.2}"),
        "requests" => format!("{value:.4}"),
        "B" if value >= 1_000.0 => format!("{value:.0} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

fn line(row: &Row, markdown: bool) -> String {
    let mut measured = number(row.value, &row.unit);
    if let Some((low, high)) = row.spread.or(row.interval) {
        let _ = write!(
            measured,
            " ({} to {})",
            number(low, &row.unit),
            number(high, &row.unit)
        );
    }
    let goal = row.goal.map_or_else(
        || "-".to_owned(),
        |it| {
            format!(
                "{} {}",
                if row.more_is_better { ">=" } else { "<=" },
                number(it, &row.unit)
            )
        },
    );
    let met = match row.reaches() {
        Some(true) => "reached",
        Some(false) => "short",
        None => "",
    };
    let mut beside = row.rates.map_or_else(String::new, |(ours, floor)| {
        format!("{ours:.0} over {floor:.0} a second")
    });
    if let Some((ours, floor)) = row.cpu_us {
        let _ = write!(beside, "; CPU {ours:.1} over {floor:.1} us");
    }
    if !row.floor.is_empty() {
        let _ = write!(
            beside,
            "{}{}",
            if beside.is_empty() { "" } else { "; " },
            row.floor
        );
    }
    if markdown {
        format!(
            "| {} | {} | {measured} | {goal} | {met} | {beside} |\n",
            row.figure, row.engine
        )
    } else {
        format!(
            "{:<46} {:<10} {measured:<26} {goal:<12} {met:<8} {beside}\n",
            row.figure, row.engine
        )
    }
}

/// The table for people.
fn told(table: &Table, markdown: bool) -> String {
    let brackets = if table.repeats > 1 {
        "the least and the most of all repetitions"
    } else {
        "the median's interval"
    };
    let mut out = format!(
        "{}; stagedoor {}; medians of {} interleaved pairs of {} s, {} repetitions; in brackets {brackets}\n",
        table.machine, table.version, table.pairs, table.round_s, table.repeats
    );
    if markdown {
        out += "\n| figure | engine | measured | goal | | beside |\n|---|---|---|---|---|---|\n";
    }
    for row in &table.rows {
        out += &line(row, markdown);
    }
    for why in &table.not_measured {
        let _ = writeln!(out, "not measured: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(value: f64) -> Table {
        let row = Row {
            goal: Some(0.85),
            ..Row::plain("join", "memory", value, "ratio", None, true)
        };
        Table {
            machine: "m".into(),
            version: "v".into(),
            pairs: 9,
            round_s: 1.0,
            repeats: 1,
            figures: vec!["join".into()],
            rows: vec![row],
            not_measured: vec!["x: why".into()],
        }
    }

    #[test]
    fn repetitions_are_told_by_their_median_and_spread() {
        let all = together(&[table(0.8), table(0.9), table(0.86)]);
        assert_eq!(
            (all.rows[0].value, all.rows[0].spread, all.repeats),
            (0.86, Some((0.8, 0.9)), 3)
        );
        let text = told(&all, true);
        assert!(
            text.contains("| join | memory | 0.86 (0.80 to 0.90) | >= 0.85 | reached |"),
            "{text}"
        );
        assert!(told(&table(0.8), false).contains("short") && text.contains("not measured: x: why"));
    }

    #[test]
    fn a_measurement_that_was_broken_off_goes_on_where_it_was_measured() {
        let dir = std::env::temp_dir().join(format!("stagedoor-ratios-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert!(earlier(&dir).unwrap().is_empty());
        let here = Table {
            machine: machine(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..table(0.8)
        };
        let write = |tables: &[Table]| {
            fs::write(dir.join("repetitions.json"), serde_json::to_vec(tables).unwrap()).unwrap()
        };
        write(&[here.clone(), here.clone()]);
        assert_eq!(earlier(&dir).unwrap().len(), 2);
        write(&[here, table(0.8)]);
        let refused = earlier(&dir).unwrap_err().to_string();
        assert!(
            refused.contains("repetitions.json has figures of m, stagedoor v"),
            "{refused}"
        );
        fs::write(dir.join("repetitions.json"), "[").unwrap();
        assert!(earlier(&dir).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_measurement_that_comes_in_parts_measures_what_is_missing() {
        let had = table(0.8);
        let only = ["forecast", "join", "board"].map(str::to_owned);
        assert_eq!(missing(&only, 0, None), ["join", "board", "forecast"]);
        assert_eq!(missing(&only, 0, Some(&had)), ["board", "forecast"]);
        assert_eq!(
            (missing(&only, 1, Some(&had)), missing(&[], 1, None).len()),
            (vec!["board"], FIGURES.len() - 1)
        );
        let board = Row {
            figure: "board".into(),
            ..had.rows[0].clone()
        };
        let mut both = had.clone();
        both.add(Table {
            figures: vec!["board".into()],
            rows: vec![board.clone()],
            ..had.clone()
        });
        assert_eq!(missing(&only, 1, Some(&both)), [""; 0]);
        let all = together(&[had, both]);
        assert_eq!(
            (all.rows.len(), all.rows[0].spread, all.rows[1].spread),
            (2, Some((0.8, 0.8)), None)
        );
        assert!(all.rows[1].is_same(&board));
    }

    #[test]
    fn less_is_better_where_it_is() {
        assert_eq!(
            Row::plain("memory", "redis", 25.0, "B", Some(20.0), false).reaches(),
            Some(false)
        );
        assert_eq!(
            Row::plain("memory", "redis", 16.0, "B", Some(20.0), false).reaches(),
            Some(true)
        );
        assert_eq!(
            Row::plain("memory", "redis", 16.0, "B", None, false).reaches(),
            None
        );
    }
}
