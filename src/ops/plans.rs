//! Loads seating plans by name: a file, or a generated plan.

use std::{fs, ops::RangeInclusive, path::Path};

use anyhow::{Context, bail};

use crate::{
    platform::text_file::read_text,
    seating::{self, Plan, VenueKind},
};

/// Begins the name of a plan that is generated.
pub(crate) const GENERATE: &str = "generate:";

/// A plan of 100,000 seats has about 12 MB.
const PLAN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How many seats a generated plan may have; the upper end is the plan format's limit.
const SEATS: RangeInclusive<u32> = 10..=100_000;

/// Loads the plan that a configuration names: a file, or `generate:KIND:SEATS`.
///
/// # Errors
/// When the file cannot be read, the plan is not valid, or KIND or SEATS are not.
pub fn load(name: &str) -> anyhow::Result<Plan> {
    let text = match name.strip_prefix(GENERATE) {
        None => read(Path::new(name))?,
        Some(spec) => generate_from(spec).with_context(|| format!("`{name}`"))?,
    };
    Ok(Plan::parse(&text)?)
}

/// Prints a summary of a plan.
///
/// # Errors
/// Everything that is wrong with the plan.
pub fn check(file: &Path) -> anyhow::Result<()> {
    let text = read(file)?;
    let plan = Plan::parse(&text)
        .map_err(|errors| anyhow::anyhow!("{} cannot be used:\n{errors}", file.display()))?;
    println!(
        "{}: {} seats in {} sections, price zones {}",
        file.display(),
        plan.seat_count(),
        plan.sections().len(),
        plan.zones().join(", ")
    );
    Ok(())
}

/// Generates a plan, in the pretix format.
///
/// # Errors
/// When the number of seats is out of range.
pub fn generate(kind: VenueKind, seats: u32) -> anyhow::Result<String> {
    if !SEATS.contains(&seats) {
        bail!(
            "seats: a plan has {} to {} of them, not {seats}",
            SEATS.start(),
            SEATS.end()
        );
    }
    Ok(seating::generate(kind, seats))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let size = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    if size > PLAN_BYTES_MAX {
        bail!(
            "{} has {size} bytes; a plan has at most {PLAN_BYTES_MAX}",
            file.display()
        );
    }
    read_text(file).with_context(|| format!("cannot read {}", file.display()))
}

fn generate_from(spec: &str) -> anyhow::Result<String> {
    let (kind, seats) = spec.split_once(':').context("must be generate:KIND:SEATS")?;
    let kind = match kind {
        "theatre" => VenueKind::Theatre,
        "arena" => VenueKind::Arena,
        "stadium" => VenueKind::Stadium,
        _ => bail!("KIND is theatre, arena or stadium"),
    };
    generate(kind, seats.parse().context("SEATS is a number")?)
}
