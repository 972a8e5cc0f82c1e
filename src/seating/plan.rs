//! A venue's seats, compiled once and never changed: names, zones, neighbours, and which seats are the better ones.

pub(crate) mod document;
pub(crate) mod errors;
pub(crate) mod generate;
pub(crate) mod pretix;
pub(crate) mod rows;

use std::{collections::HashMap, io::Write, sync::Arc};

use aws_lc_rs::digest;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

pub use crate::seating::plan::{
    document::Attribute,
    errors::{PlanError, PlanErrors},
};
use crate::seating::{
    plan::document::{Document, Point},
    seat::SeatIx,
};

/// An immutable seating plan. Seats are numbered in the order in which the file names them.
#[derive(Debug)]
pub struct Plan {
    name: String,
    hash: String,
    json_gzip: Bytes,
    seats: Vec<PlanSeat>,
    rows: Vec<PlanRow>,
    zones: Vec<String>,
    sections: Vec<String>,
    by_guid: HashMap<Arc<str>, SeatIx>,
    runs: Vec<Run>,
    run_seats: Vec<SeatIx>,
    runs_by_zone: Vec<Vec<u32>>,
    runs_by_score: Vec<u32>,
    spacing: f32,
}

#[derive(Debug)]
struct PlanSeat {
    guid: Arc<str>,
    /// As a JSON string, with its quotation marks.
    guid_json: Box<str>,
    number: Box<str>,
    row: u32,
    zone: u32,
    attributes: u8,
    x: f32,
    y: f32,
    score: f32,
}

#[derive(Debug)]
struct PlanRow {
    label: String,
    section: u32,
}

/// Seats that stand side by side with no aisle between, in their order.
#[derive(Debug)]
pub(super) struct Run {
    start: u32,
    end: u32,
    pub(super) section: u32,
    /// The best seat's.
    pub(super) score_min: f32,
    centre: (f32, f32),
    radius: f32,
}

/// What is printed on a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatLabel<'p> {
    pub section: &'p str,
    pub row: &'p str,
    pub number: &'p str,
}

impl Plan {
    /// Reads a pretix seating plan.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its JSON path or its line and column.
    pub fn parse(json: &str) -> Result<Self, PlanErrors> {
        pretix::read(json).map(|document| Self::compile(&document))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the plan as it is served.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The plan as pretix JSON, unknown keys left out, compressed with gzip.
    pub fn json_gzip(&self) -> Bytes {
        self.json_gzip.clone()
    }

    pub fn seat_count(&self) -> usize {
        self.seats.len()
    }

    /// All seats, in their order.
    pub fn seats(&self) -> impl Iterator<Item = SeatIx> + use<> {
        (0..u32::try_from(self.seats.len()).unwrap_or(u32::MAX)).map(SeatIx)
    }

    pub fn index_of(&self, guid: &str) -> Option<SeatIx> {
        self.by_guid.get(guid).copied()
    }

    /// The `seat_guid`; empty for a seat that is not in this plan, as are the other names.
    pub fn guid(&self, seat: SeatIx) -> &str {
        self.seats.get(seat.index()).map_or("", |it| &it.guid)
    }

    pub(super) fn guid_json(&self, seat: SeatIx) -> &str {
        &self.seats[seat.index()].guid_json
    }

    /// The price zone: the pretix category's name.
    pub fn zone_of(&self, seat: SeatIx) -> &str {
        self.seats
            .get(seat.index())
            .and_then(|it| self.zones.get(it.zone as usize))
            .map_or("", String::as_str)
    }

    pub fn section_of(&self, seat: SeatIx) -> &str {
        self.label(seat).section
    }

    pub fn label(&self, seat: SeatIx) -> SeatLabel<'_> {
        let Some(it) = self.seats.get(seat.index()) else {
            return SeatLabel {
                section: "",
                row: "",
                number: "",
            };
        };
        let row = &self.rows[it.row as usize];
        SeatLabel {
            section: &self.sections[row.section as usize],
            row: &row.label,
            number: &it.number,
        }
    }

    pub fn has_attribute(&self, seat: SeatIx, attribute: Attribute) -> bool {
        self.seats
            .get(seat.index())
            .is_some_and(|it| it.attributes & bit(attribute) != 0)
    }

    /// Price zones in the file's order.
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// Sections in the file's order, each name once.
    pub fn sections(&self) -> &[String] {
        &self.sections
    }

    pub(super) fn zone_index(&self, name: &str) -> Option<u32> {
        position(&self.zones, name)
    }

    pub(super) fn section_index(&self, name: &str) -> Option<u32> {
        position(&self.sections, name)
    }

    pub(super) fn zone_index_of(&self, seat: SeatIx) -> u32 {
        self.seats[seat.index()].zone
    }

    pub(super) fn section_index_of(&self, seat: SeatIx) -> u32 {
        self.rows[self.seats[seat.index()].row as usize].section
    }

    /// How far a seat is from the best place of the house, in pixels with penalties: less is better.
    pub(super) fn score(&self, seat: SeatIx) -> f32 {
        self.seats[seat.index()].score
    }

    pub(super) fn position_of(&self, seat: SeatIx) -> (f32, f32) {
        let it = &self.seats[seat.index()];
        (it.x, it.y)
    }

    /// The usual distance between neighbours, in pixels.
    pub(super) fn spacing(&self) -> f32 {
        self.spacing
    }

    pub(super) fn run(&self, run: u32) -> &Run {
        &self.runs[run as usize]
    }

    pub(super) fn seats_of(&self, run: u32) -> &[SeatIx] {
        let run = self.run(run);
        &self.run_seats[run.start as usize..run.end as usize]
    }

    /// The runs that have a seat of the zone (of any zone when `None`), best first.
    pub(super) fn runs_of(&self, zone: Option<u32>) -> &[u32] {
        match zone {
            None => &self.runs_by_score,
            Some(zone) => self.runs_by_zone.get(zone as usize).map_or(&[], Vec::as_slice),
        }
    }

    pub(super) fn compile(document: &Document) -> Self {
        let json = serde_json::to_vec(document).expect("a document of plain structs serialises");
        let digest = digest::digest(&digest::SHA256, &json);
        let hash = digest
            .as_ref()
            .iter()
            .take(8)
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let zones: Vec<String> = document.categories.iter().map(|it| it.name.clone()).collect();
        let zone_index: HashMap<&str, u32> = zones.iter().map(String::as_str).zip(0..).collect();
        let mut plan = Self {
            name: document.name.clone(),
            hash,
            json_gzip: gzip(&json, Compression::new(6)),
            seats: Vec::new(),
            rows: Vec::new(),
            sections: Vec::new(),
            by_guid: HashMap::new(),
            runs: Vec::new(),
            run_seats: Vec::new(),
            runs_by_zone: vec![Vec::new(); zones.len()],
            runs_by_score: Vec::new(),
            spacing: 1.0,
            zones: Vec::new(),
        };
        let mut section_index: HashMap<&str, u32> = HashMap::new();
        let mut spacings = Vec::new();
        for zone in &document.zones {
            let section = *section_index.entry(&zone.name).or_insert_with(|| {
                plan.sections.push(zone.name.clone());
                index(plan.sections.len() - 1)
            });
            for row in &zone.rows {
                let first = plan.seats.len();
                plan.rows.push(PlanRow {
                    label: row.row_label.clone().unwrap_or_else(|| row.row_number.clone()),
                    section,
                });
                for seat in &row.seats {
                    let guid: Arc<str> = seat.seat_guid.as_str().into();
                    plan.by_guid
                        .insert(Arc::clone(&guid), SeatIx(index(plan.seats.len())));
                    let at = sum([zone.position, row.position, seat.position]);
                    plan.seats.push(PlanSeat {
                        guid,
                        guid_json: serde_json::Value::from(seat.seat_guid.as_str())
                            .to_string()
                            .into(),
                        number: seat.seat_number.as_str().into(),
                        row: index(plan.rows.len() - 1),
                        zone: zone_index
                            .get(seat.category.as_str())
                            .copied()
                            .unwrap_or_default(),
                        attributes: seat.attributes.iter().fold(0, |bits, it| bits | bit(*it)),
                        x: at.0,
                        y: at.1,
                        score: 0.0,
                    });
                }
                let places: Vec<(f32, f32)> =
                    plan.seats[first..].iter().map(|seat| (seat.x, seat.y)).collect();
                let (runs, spacing) = rows::runs(&places);
                spacings.extend(spacing);
                for run in runs {
                    plan.add_run(section, run.into_iter().map(|i| SeatIx(index(first + i))));
                }
            }
        }
        spacings.sort_by(f32::total_cmp);
        plan.spacing = spacings.get(spacings.len() / 2).copied().unwrap_or(1.0).max(0.01);
        plan.zones = zones;
        plan.rank(rows::stage(document));
        plan
    }

    fn add_run(&mut self, section: u32, seats: impl Iterator<Item = SeatIx>) {
        let start = index(self.run_seats.len());
        self.run_seats.extend(seats);
        self.runs.push(Run {
            start,
            end: index(self.run_seats.len()),
            section,
            score_min: 0.0,
            centre: (0.0, 0.0),
            radius: 0.0,
        });
    }

    /// Scores the seats and puts the runs of each zone in the order in which they are offered.
    fn rank(&mut self, stage: (f32, f32)) {
        let restricted = 10.0 * self.spacing;
        for seat in &mut self.seats {
            // The side counts for more than the distance: two rows back in the middle beat the end of the row in front.
            let distance = (1.4 * (seat.x - stage.0)).hypot(seat.y - stage.1);
            seat.score = if seat.attributes & bit(Attribute::RestrictedView) == 0 {
                distance
            } else {
                distance + restricted
            };
        }
        for run in 0..index(self.runs.len()) {
            let seats = self.seats_of(run).to_vec();
            let places: Vec<_> = seats.iter().map(|seat| self.position_of(*seat)).collect();
            let (centre, radius) = rows::circle_around(&places);
            let score_min = seats
                .iter()
                .map(|seat| self.score(*seat))
                .fold(f32::INFINITY, f32::min);
            let it = &mut self.runs[run as usize];
            (it.centre, it.radius, it.score_min) = (centre, radius, score_min);
            let mut zones: Vec<u32> = seats.iter().map(|seat| self.zone_index_of(*seat)).collect();
            zones.sort_unstable();
            zones.dedup();
            for zone in zones {
                self.runs_by_zone[zone as usize].push(run);
            }
            self.runs_by_score.push(run);
        }
        let runs = &self.runs;
        let order = |a: &u32, b: &u32| {
            runs[*a as usize]
                .score_min
                .total_cmp(&runs[*b as usize].score_min)
        };
        self.runs_by_score.sort_by(order);
        for of_zone in &mut self.runs_by_zone {
            of_zone.sort_by(order);
        }
    }
}

impl Run {
    /// No seat of the run is nearer to the place than this.
    pub(super) fn distance_min(&self, to: (f32, f32)) -> f32 {
        ((self.centre.0 - to.0).hypot(self.centre.1 - to.1) - self.radius).max(0.0)
    }
}

pub(super) fn gzip(bytes: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), level);
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("memory takes every byte")
        .into()
}

fn bit(attribute: Attribute) -> u8 {
    1 << attribute as u8
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a plan has at most 100,000 seats")
}

fn position(names: &[String], name: &str) -> Option<u32> {
    names.iter().position(|it| it == name).map(index)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a pixel's hundredth is as fine as a plan gets"
)]
fn sum(points: [Point; 3]) -> (f32, f32) {
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), it| (x + it.x, y + it.y));
    (x as f32, y as f32)
}
