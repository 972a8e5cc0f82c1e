//! Compiles a plan's document: numbers the seats, finds neighbors, and ranks runs of seats.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::digest;
use flate2::Compression;

use crate::seating::{
    gzip::gzip,
    plan::{
        document::{Attribute, Document, Point, Row, Zone},
        errors::PlanErrors,
        geometry,
        seating_plan::{Plan, PlanRow, PlanSeat, Run, bit},
        validate_pretix,
    },
    seat::SeatIx,
};

impl Plan {
    /// Reads a pretix seating plan.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its JSON path or its line and column.
    pub fn parse(json: &str) -> Result<Self, PlanErrors> {
        validate_pretix::read(json).map(|document| Self::compile(&document))
    }

    fn compile(document: &Document) -> Self {
        let mut plan = Self::empty(document);
        let zone_names = document.categories.iter().map(|category| category.name.as_str());
        let zone_index: HashMap<&str, u32> = zone_names.zip(0..).collect();
        let mut section_index: HashMap<&str, u32> = HashMap::new();
        let mut spacings = Vec::new();
        for zone in &document.zones {
            let section = *section_index.entry(&zone.name).or_insert_with(|| {
                plan.sections.push(zone.name.clone());
                index(plan.sections.len() - 1)
            });
            for row in &zone.rows {
                let first = plan.seats.len();
                plan.add_row(zone, row, section, &zone_index);
                let positions: Vec<(f32, f32)> =
                    plan.seats[first..].iter().map(|seat| (seat.x, seat.y)).collect();
                let (runs, spacing) = geometry::runs(&positions);
                spacings.extend(spacing);
                for run in runs {
                    plan.add_run(section, run.into_iter().map(|i| SeatIx(index(first + i))));
                }
            }
        }
        spacings.sort_by(f32::total_cmp);
        plan.spacing = spacings.get(spacings.len() / 2).copied().unwrap_or(1.0).max(0.01);
        plan.rank(geometry::stage(document));
        plan
    }

    /// The plan without its seats.
    fn empty(document: &Document) -> Self {
        let json = serde_json::to_vec(document).expect("a document of plain structs serializes");
        let digest = digest::digest(&digest::SHA256, &json);
        let hash = digest
            .as_ref()
            .iter()
            .take(8)
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let categories = document.categories.iter();
        let zones: Vec<String> = categories.map(|category| category.name.clone()).collect();
        Self {
            name: document.name.clone(),
            hash,
            json_gzip: gzip(&json, Compression::new(6)),
            json: json.into(),
            seats: Vec::new(),
            rows: Vec::new(),
            sections: Vec::new(),
            by_guid: HashMap::new(),
            runs: Vec::new(),
            run_seats: Vec::new(),
            runs_by_zone: vec![Vec::new(); zones.len()],
            runs_by_score: Vec::new(),
            spacing: 1.0,
            zones,
        }
    }

    fn add_row(&mut self, zone: &Zone, row: &Row, section: u32, zone_index: &HashMap<&str, u32>) {
        self.rows.push(PlanRow {
            label: row.row_label.clone().unwrap_or_else(|| row.row_number.clone()),
            section,
        });
        for seat in &row.seats {
            let guid: Arc<str> = seat.seat_guid.as_str().into();
            self.by_guid
                .insert(Arc::clone(&guid), SeatIx(index(self.seats.len())));
            let (x, y) = sum([zone.position, row.position, seat.position]);
            self.seats.push(PlanSeat {
                guid,
                guid_json: serde_json::Value::from(seat.seat_guid.as_str())
                    .to_string()
                    .into(),
                number: seat.seat_number.as_str().into(),
                row: index(self.rows.len() - 1),
                zone: zone_index
                    .get(seat.category.as_str())
                    .copied()
                    .unwrap_or_default(),
                attributes: seat
                    .attributes
                    .iter()
                    .fold(0, |bits, attribute| bits | bit(*attribute)),
                x,
                y,
                score: 0.0,
            });
        }
    }

    fn add_run(&mut self, section: u32, seats: impl Iterator<Item = SeatIx>) {
        let start = index(self.run_seats.len());
        self.run_seats.extend(seats);
        self.runs.push(Run {
            start,
            end: index(self.run_seats.len()),
            section,
            score_min: 0.0,
            center: (0.0, 0.0),
            radius: 0.0,
        });
    }

    /// Scores the seats, and sorts the runs of each zone by their best seat.
    fn rank(&mut self, stage: (f32, f32)) {
        let restricted_penalty = 10.0 * self.spacing;
        for seat in &mut self.seats {
            // The offset to the side weighs more than the distance: two rows further back in the middle are
            // better than the end of the row in front.
            let distance = (1.4 * (seat.x - stage.0)).hypot(seat.y - stage.1);
            seat.score = if seat.attributes & bit(Attribute::RestrictedView) == 0 {
                distance
            } else {
                distance + restricted_penalty
            };
        }
        for run in 0..index(self.runs.len()) {
            let seats = self.seats_of(run).to_vec();
            let positions: Vec<_> = seats.iter().map(|seat| self.position_of(*seat)).collect();
            let (center, radius) = geometry::circle_around(&positions);
            let score_min = seats
                .iter()
                .map(|seat| self.score(*seat))
                .fold(f32::INFINITY, f32::min);
            let ranked = &mut self.runs[run as usize];
            ranked.center = center;
            ranked.radius = radius;
            ranked.score_min = score_min;
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

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a plan has at most 100,000 seats")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "plans are drawn to a hundredth of a pixel"
)]
fn sum(points: [Point; 3]) -> (f32, f32) {
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.x, y + point.y));
    (x as f32, y as f32)
}
