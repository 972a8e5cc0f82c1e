//! The seat map as a fan sees it: rows of seats, some of them free, and the choice of seats side by side.

use std::ops::Range;

use serde::Deserialize;

use crate::demo::client::VisitorRng;

/// A performance's plan, parsed from the pretix seating plan JSON that the server publishes. A seat is its
/// index in file order, which is also the order of the packed snapshot.
pub(super) struct SeatingPlan {
    guids: Vec<Box<str>>,
    rows: Vec<Row>,
    /// Price zones.
    pub(super) zones: Vec<String>,
}

struct Row {
    seats: Range<usize>,
    zone: usize,
}

#[derive(Deserialize)]
struct PlanFile {
    zones: Vec<ZoneFile>,
}

#[derive(Deserialize)]
struct ZoneFile {
    rows: Vec<RowFile>,
}

#[derive(Deserialize)]
struct RowFile {
    seats: Vec<SeatFile>,
}

#[derive(Deserialize)]
struct SeatFile {
    seat_guid: Box<str>,
    category: String,
}

impl SeatingPlan {
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let file: PlanFile = serde_json::from_slice(json)?;
        let mut plan = Self {
            guids: Vec::new(),
            rows: Vec::new(),
            zones: Vec::new(),
        };
        for row in file.zones.into_iter().flat_map(|zone| zone.rows) {
            let mut began = plan.guids.len();
            let mut current = None;
            for seat in row.seats {
                let zone = plan.zone_index(&seat.category);
                // A row whose price changes half-way is two rows to a buyer.
                if let Some(before) = current.replace(zone)
                    && before != zone
                {
                    plan.rows.push(Row {
                        seats: began..plan.guids.len(),
                        zone: before,
                    });
                    began = plan.guids.len();
                }
                plan.guids.push(seat.seat_guid);
            }
            if let Some(zone) = current {
                plan.rows.push(Row {
                    seats: began..plan.guids.len(),
                    zone,
                });
            }
        }
        Ok(plan)
    }

    fn zone_index(&mut self, category: &str) -> usize {
        self.zones.iter().position(|z| z == category).unwrap_or_else(|| {
            self.zones.push(category.to_owned());
            self.zones.len() - 1
        })
    }

    pub(super) fn seat_count(&self) -> usize {
        self.guids.len()
    }

    pub(super) fn guid(&self, seat: usize) -> &str {
        &self.guids[seat]
    }

    /// `quantity` free seats side by side, in `zone` if there are any, else anywhere. The search starts at a
    /// random row and takes a random position within the row, so that fans with the same wish rarely collide.
    pub(super) fn side_by_side(
        &self,
        free: &SeatSnapshot,
        quantity: usize,
        zone: Option<usize>,
        rng: &VisitorRng,
    ) -> Option<Vec<usize>> {
        let first = rng.below(self.rows.len());
        let rows = || (0..self.rows.len()).map(|n| &self.rows[(first + n) % self.rows.len()]);
        let in_zone = rows().filter(|row| zone.is_none_or(|z| row.zone == z));
        in_zone.chain(rows()).find_map(|row| {
            let starts: Vec<usize> = row
                .seats
                .clone()
                .filter(|&start| {
                    start + quantity <= row.seats.end
                        && (start..start + quantity).all(|seat| free.is_free(seat))
                })
                .collect();
            (!starts.is_empty()).then(|| {
                let start = starts[rng.below(starts.len())];
                (start..start + quantity).collect()
            })
        })
    }
}

/// The packed form of the availability: a header of 12 bytes (version u64, count u32, little endian), then
/// two bits a seat, 0 for free.
pub(super) struct SeatSnapshot(bytes::Bytes);

impl SeatSnapshot {
    const HEADER_BYTES: usize = 12;

    /// `None` when the bytes are not a snapshot of so many seats.
    pub(super) fn parse(packed: bytes::Bytes, seats: usize) -> Option<Self> {
        let count = u32::from_le_bytes(packed.get(8..Self::HEADER_BYTES)?.try_into().ok()?);
        (count as usize == seats && packed.len() >= Self::HEADER_BYTES + seats.div_ceil(4))
            .then_some(Self(packed))
    }

    fn is_free(&self, seat: usize) -> bool {
        (self.0[Self::HEADER_BYTES + seat / 4] >> (2 * (seat % 4))).is_multiple_of(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> SeatingPlan {
        let seats = |row: &str, zones: &[&str]| -> Vec<serde_json::Value> {
            zones
                .iter()
                .enumerate()
                .map(|(n, z)| serde_json::json!({"seat_guid": format!("{row}-{n}"), "category": z}))
                .collect()
        };
        let plan = serde_json::json!({"name": "x", "zones": [
            {"rows": [{"seats": seats("a", &["R", "R", "S", "S", "S"])}]},
            {"rows": [{"seats": seats("b", &["S", "S"])}]},
        ]});
        SeatingPlan::parse(plan.to_string().as_bytes()).unwrap()
    }

    fn snapshot(free: &[bool]) -> SeatSnapshot {
        let mut bytes = vec![0; SeatSnapshot::HEADER_BYTES + free.len().div_ceil(4)];
        bytes[8..12].copy_from_slice(&u32::try_from(free.len()).unwrap().to_le_bytes());
        for (seat, free) in free.iter().enumerate() {
            bytes[SeatSnapshot::HEADER_BYTES + seat / 4] |= u8::from(!free) << (2 * (seat % 4));
        }
        SeatSnapshot::parse(bytes.into(), free.len()).unwrap()
    }

    #[test]
    fn chosen_seats_are_free_neighbors_of_one_zone() {
        let (plan, rng) = (plan(), VisitorRng::new(1, 1));
        let free = snapshot(&[true, true, true, false, true, true, true]);
        for _ in 0..50 {
            assert_eq!(
                plan.side_by_side(&free, 2, Some(0), &rng),
                Some(vec![0, 1]),
                "the requested zone"
            );
            let pair = plan.side_by_side(&free, 2, Some(1), &rng).unwrap();
            assert_eq!(pair, vec![5, 6], "never across a taken seat, a price or a row");
        }
        assert_eq!(plan.side_by_side(&free, 3, None, &rng), None);
        assert_eq!(plan.guid(6), "b-1");
        assert_eq!(plan.zones, ["R", "S"]);
    }

    #[test]
    fn a_snapshot_of_another_plan_is_rejected() {
        assert!(SeatSnapshot::parse(bytes::Bytes::from_static(&[0; 14]), 7).is_none());
        assert!(SeatSnapshot::parse(bytes::Bytes::from_static(&[0; 5]), 0).is_none());
    }
}
