//! The seat map as a fan sees it: rows of seats, some of them free.

use std::ops::Range;

use serde::Deserialize;

use crate::demo::crowd::dice::Dice;

/// A performance's plan, read from the pretix seating plan JSON that the server publishes. A seat is its index in the
/// order of the file, which is the order of the packed snapshot too.
pub(crate) struct House {
    guids: Vec<Box<str>>,
    rows: Vec<Row>,
    /// Price zones.
    pub(crate) zones: Vec<String>,
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

impl House {
    pub(crate) fn read(plan: &[u8]) -> Result<Self, serde_json::Error> {
        let plan: PlanFile = serde_json::from_slice(plan)?;
        let mut house = Self {
            guids: Vec::new(),
            rows: Vec::new(),
            zones: Vec::new(),
        };
        for row in plan.zones.into_iter().flat_map(|zone| zone.rows) {
            let mut began = house.guids.len();
            let mut current = None;
            for seat in row.seats {
                let zone = house.zone_index(&seat.category);
                // A row whose price changes half-way is two rows to a buyer.
                if let Some(before) = current.replace(zone)
                    && before != zone
                {
                    house.rows.push(Row {
                        seats: began..house.guids.len(),
                        zone: before,
                    });
                    began = house.guids.len();
                }
                house.guids.push(seat.seat_guid);
            }
            if let Some(zone) = current {
                house.rows.push(Row {
                    seats: began..house.guids.len(),
                    zone,
                });
            }
        }
        Ok(house)
    }

    fn zone_index(&mut self, category: &str) -> usize {
        self.zones.iter().position(|z| z == category).unwrap_or_else(|| {
            self.zones.push(category.to_owned());
            self.zones.len() - 1
        })
    }

    pub(crate) fn seat_count(&self) -> usize {
        self.guids.len()
    }

    pub(crate) fn guid(&self, seat: usize) -> &str {
        &self.guids[seat]
    }

    /// So many free seats side by side: in the wished zone where there are some, else anywhere. The search begins at a
    /// row drawn at random and in each row takes one of the fitting places at random.
    pub(crate) fn side_by_side(
        &self,
        free: &Snapshot,
        quantity: usize,
        zone: Option<usize>,
        dice: &Dice,
    ) -> Option<Vec<usize>> {
        let first = dice.below(self.rows.len());
        let from_there = || (0..self.rows.len()).map(|n| &self.rows[(first + n) % self.rows.len()]);
        let wished = from_there().filter(|row| zone.is_none_or(|z| row.zone == z));
        wished.chain(from_there()).find_map(|row| {
            let fitting: Vec<usize> = row
                .seats
                .clone()
                .filter(|&start| {
                    start + quantity <= row.seats.end
                        && (start..start + quantity).all(|seat| free.is_free(seat))
                })
                .collect();
            (!fitting.is_empty()).then(|| {
                let start = fitting[dice.below(fitting.len())];
                (start..start + quantity).collect()
            })
        })
    }
}

/// The packed form of the availability: a header of 12 bytes (version u64, count u32, little endian), then two bits a
/// seat, 0 for free.
pub(crate) struct Snapshot(bytes::Bytes);

impl Snapshot {
    const HEADER: usize = 12;

    /// `None` when the bytes are not a snapshot of `seats` seats.
    pub(crate) fn read(packed: bytes::Bytes, seats: usize) -> Option<Self> {
        let count = u32::from_le_bytes(packed.get(8..Self::HEADER)?.try_into().ok()?);
        (count as usize == seats && packed.len() >= Self::HEADER + seats.div_ceil(4)).then_some(Self(packed))
    }

    fn is_free(&self, seat: usize) -> bool {
        (self.0[Self::HEADER + seat / 4] >> (2 * (seat % 4))).is_multiple_of(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> House {
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
        House::read(plan.to_string().as_bytes()).unwrap()
    }

    fn snapshot(free: &[bool]) -> Snapshot {
        let mut bytes = vec![0; Snapshot::HEADER + free.len().div_ceil(4)];
        bytes[8..12].copy_from_slice(&u32::try_from(free.len()).unwrap().to_le_bytes());
        for (seat, free) in free.iter().enumerate() {
            bytes[Snapshot::HEADER + seat / 4] |= u8::from(!free) << (2 * (seat % 4));
        }
        Snapshot::read(bytes.into(), free.len()).unwrap()
    }

    #[test]
    fn seats_chosen_on_the_map_are_free_neighbours_of_one_zone() {
        let (house, dice) = (house(), Dice::new(1, 1));
        let free = snapshot(&[true, true, true, false, true, true, true]);
        for _ in 0..50 {
            assert_eq!(
                house.side_by_side(&free, 2, Some(0), &dice),
                Some(vec![0, 1]),
                "the wished zone"
            );
            let pair = house.side_by_side(&free, 2, Some(1), &dice).unwrap();
            assert_eq!(pair, vec![5, 6], "never across a taken seat, a price or a row");
        }
        assert_eq!(house.side_by_side(&free, 3, None, &dice), None);
        assert_eq!(house.guid(6), "b-1");
        assert_eq!(house.zones, ["R", "S"]);
    }

    #[test]
    fn a_snapshot_of_another_house_is_refused() {
        assert!(Snapshot::read(bytes::Bytes::from_static(&[0; 14]), 7).is_none());
        assert!(Snapshot::read(bytes::Bytes::from_static(&[0; 5]), 0).is_none());
    }
}
