//! Zone availability: how far back in the queue a price zone still has seats when a position is called.
//! Stepped once a second. Pure.
//!
//! A position is called after all numbers before it; as many of those enter as come when called, and each
//! visit takes so many seats of a zone on average, as measured on ended visits. When a zone is gone most of
//! its buyers take another one, so the other zones then go faster. The deviation from the mean adds up from
//! counting and from what is not known, and is taken as normal; the distances are those at which the chance
//! that a seat is free has fallen to 80, 50 and 20 in a hundred.

use serde::Serialize;

use crate::waiting_room::{
    status::people_ahead::{self, PeopleAhead},
    types::ZoneStock,
};

/// Prior of the seats that a visit buys, in proportion to what is free.
const PRIOR_SEATS: f64 = 1.4;
/// So many visits outweigh the prior.
const PRIOR_VISITS: f64 = 15.0;
/// Measurements fade so that about so many visits are remembered.
const MEMORY_VISITS: f64 = 400.0;
/// Share of the buyers of a zone that is gone who take another zone.
const TAKES_ANOTHER: f64 = 0.7;
/// Seats are bought in ones to fours: variance over mean of what visits take.
const CLUMPING: f64 = 2.6;
/// Relative standard deviation of how many come when called, and of what they buy.
const DRIFT: f64 = 0.14;
/// Held seats are smoothed over so many seconds.
const BASKETS_S: f64 = 60.0;

/// Behind how many numbers the chance that a seat of the zone is free has fallen to 80, 50 and 20 in a
/// hundred; `None`: it is higher than that for every waiting position.
pub(crate) type AvailabilityDistances = [Option<u32>; 3];

/// In the order of [`AvailabilityDistances`], how many standard deviations the mean must be from zero.
pub(crate) const CHANCES: [f64; 3] = [0.841_621, 0.0, -0.841_621];

/// A zone as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ZoneStatus {
    /// Seats by state.
    #[serde(flatten)]
    pub stock: ZoneStock,
    /// Absent before the first seat may be sold, and after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<u32>>>)]
    pub available_to_distance: Option<AvailabilityDistances>,
}

impl ZoneStatus {
    /// Zones without a forecast.
    pub(crate) fn plain(zones: Vec<ZoneStock>) -> Vec<Self> {
        zones
            .into_iter()
            .map(|stock| Self {
                stock,
                available_to_distance: None,
            })
            .collect()
    }
}

/// What the model sees of admission in one second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmittedCounts {
    /// Active visits.
    pub active: u32,
    /// Active visits at most.
    pub capacity: u32,
    /// Visits that have ended.
    pub ended_total: u64,
    /// Share of called visitors who come, 0 to 1.
    pub share: f64,
    /// Called visitors who are still expected, and claimants.
    pub expected: f64,
}

/// Model of one sale's demand by zone.
#[derive(Debug, Default)]
pub(crate) struct ZoneAvailability {
    before: Option<(Vec<ZoneStock>, u64)>,
    ended: f64,
    zones: Vec<ZoneDemand>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ZoneDemand {
    prior: f64,
    booked: f64,
    /// Held seats per active visit.
    in_baskets: f64,
    /// What a visit took when the zone last had free seats: of a zone that is gone nothing is bought, which
    /// says nothing about how soon a released seat is taken.
    while_left: f64,
}

impl ZoneAvailability {
    /// Learns from one second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn observe(&mut self, zones: &[ZoneStock], admitted: &AdmittedCounts) {
        let same = |before: &[ZoneStock]| {
            before
                .iter()
                .map(|it| &it.zone)
                .eq(zones.iter().map(|it| &it.zone))
        };
        let Some((before, ended_before)) = self
            .before
            .replace((zones.to_vec(), admitted.ended_total))
            .filter(|(it, _)| same(it))
        else {
            let free: u32 = zones.iter().map(|zone| zone.free).sum();
            let prior = |zone: &ZoneStock| PRIOR_SEATS * f64::from(zone.free) / f64::from(free.max(1));
            let learnt = |zone: &ZoneStock| ZoneDemand {
                prior: prior(zone),
                in_baskets: prior(zone),
                ..ZoneDemand::default()
            };
            (self.zones, self.ended) = (zones.iter().map(learnt).collect(), 0.0);
            return;
        };
        self.ended += admitted.ended_total.saturating_sub(ended_before) as f64;
        for ((learnt, zone), before) in self.zones.iter_mut().zip(zones).zip(&before) {
            learnt.booked += f64::from(zone.booked) - f64::from(before.booked);
            if zone.free > 0 {
                learnt.while_left = learnt.per_visit(self.ended);
            }
            if admitted.active > 0 {
                learnt.in_baskets +=
                    (f64::from(zone.held) / f64::from(admitted.active) - learnt.in_baskets) / BASKETS_S;
            }
        }
        if self.ended > MEMORY_VISITS {
            let keep = MEMORY_VISITS / self.ended;
            self.ended *= keep;
            self.zones.iter_mut().for_each(|learnt| learnt.booked *= keep);
        }
    }

    /// How far back in the queue each zone lasts; `None` while nothing is known.
    pub(crate) fn available_to_distance(
        &self,
        zones: &[ZoneStock],
        admitted: &AdmittedCounts,
        line: &PeopleAhead,
        length: u32,
    ) -> Vec<Option<AvailabilityDistances>> {
        if self.zones.len() != zones.len() || zones.iter().all(|zone| zone.free == 0) {
            return vec![None; zones.len()];
        }
        let per_visit: Vec<f64> = self.zones.iter().map(|it| it.per_visit(self.ended)).collect();
        let (mut sold, mut wanted) = (vec![0.0; zones.len()], vec![0.0; zones.len()]);
        let mut distances: Vec<AvailabilityDistances> = vec![[None; 3]; zones.len()];
        let active = f64::from(admitted.active);
        let (mut finished, mut from) = (0.0, 0);
        for distance in std::iter::once(0).chain(people_ahead::distances(length)) {
            let people = f64::from(u32::try_from(line.within(distance.into()).count).unwrap_or(u32::MAX));
            let entries = admitted.expected + people * admitted.share;
            let inside_then = (active + entries).min(f64::from(admitted.capacity));
            // Those who are active then choose at the same time; all others have ended their visits, with
            // what they have bought.
            let gone_then = (active + entries - inside_then).max(finished);
            self.sell(&mut sold, &mut wanted, zones, &per_visit, gone_then - finished);
            finished = gone_then;
            for (at, zone) in zones.iter().enumerate() {
                let in_baskets = self.zones[at].in_baskets * inside_then;
                // Demand that appears only when others are gone is uncertain; what is held now is not.
                let unsure = wanted[at] + (in_baskets - f64::from(zone.held)).abs();
                let deviation = (CLUMPING * unsure + (self.drift(per_visit[at]) * unsure).powi(2))
                    .sqrt()
                    .max(0.5);
                let left = f64::from(zone.free + zone.held) - wanted[at] - in_baskets - 0.5;
                for (fallen, chance) in distances[at].iter_mut().zip(CHANCES) {
                    if fallen.is_none() && left < chance * deviation {
                        // Between the last distance and this one; in doubt nearer.
                        *fallen = Some(from);
                    }
                }
            }
            from = distance;
        }
        distances.into_iter().map(Some).collect()
    }

    /// Ends `visits` more visits. What would have been bought of a zone that is gone is counted on: it says
    /// how surely it is gone.
    fn sell(
        &self,
        sold: &mut [f64],
        wanted: &mut [f64],
        zones: &[ZoneStock],
        per_visit: &[f64],
        visits: f64,
    ) {
        const STEPS: u32 = 8;
        let of_all: f64 = per_visit.iter().sum();
        for _ in 0..STEPS {
            let left: Vec<bool> = zones
                .iter()
                .zip(&*sold)
                .map(|(zone, sold)| *sold < f64::from(zone.free + zone.held))
                .collect();
            let of_left: f64 = per_visit
                .iter()
                .zip(&left)
                .filter(|(_, left)| **left)
                .map(|(per_visit, _)| per_visit)
                .sum();
            let times = if of_left > 0.0 {
                1.0 + TAKES_ANOTHER * (of_all - of_left) / of_left
            } else {
                1.0
            };
            for at in 0..zones.len() {
                let own = if left[at] {
                    per_visit[at]
                } else {
                    per_visit[at].max(self.zones[at].while_left)
                };
                let more = own * times * visits / f64::from(STEPS);
                wanted[at] += more;
                sold[at] += if left[at] { more } else { 0.0 };
            }
        }
    }

    /// Relative uncertainty of what a visit takes.
    fn drift(&self, per_visit: f64) -> f64 {
        let counted = per_visit * (self.ended + PRIOR_VISITS);
        (DRIFT * DRIFT + CLUMPING / counted.max(1.0)).sqrt()
    }
}

impl ZoneDemand {
    fn per_visit(&self, ended: f64) -> f64 {
        ((self.booked + self.prior * PRIOR_VISITS) / (ended + PRIOR_VISITS)).max(0.001)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// A visitor: which zone, how many seats, when they are held, when the visit ends,
    /// whether they are paid for.
    struct Visitor {
        wants: usize,
        seats: u32,
        takes_at: u32,
        leaves_at: u32,
        pays: bool,
        holds: Option<usize>,
    }

    /// A statement: of which zone, to which number, as which of likely, uncertain, unlikely.
    struct Forecast {
        zone: usize,
        number: u32,
        word: usize,
    }

    struct SimulatedSale {
        entropy: SeededEntropy,
        zones: Vec<ZoneStock>,
        taste: [f64; 4],
        visitors: Vec<Visitor>,
        ended: u64,
        now_serving: u32,
        forecasts: Vec<Forecast>,
        /// For each word: statements, and those after which a seat was free.
        came_true: [[u32; 2]; 3],
    }

    const CAPACITY: usize = 60;
    const FANS: u32 = 1_500;

    impl SimulatedSale {
        fn new(seed: u64) -> Self {
            let entropy = SeededEntropy::new(seed);
            let zones = ["R", "S", "A", "B"].map(|zone| ZoneStock {
                zone: zone.into(),
                free: 100 + u32::try_from(entropy.below(500)).unwrap(),
                free_for_wheelchairs: 0,
                held: 0,
                booked: 0,
                blocked: 0,
            });
            let taste = [0; 4].map(|_| 0.1 + entropy.unit());
            let (zones, visitors) = (zones.to_vec(), Vec::new());
            Self {
                entropy,
                zones,
                taste,
                visitors,
                ended: 0,
                now_serving: 0,
                forecasts: Vec::new(),
                came_true: [[0; 2]; 3],
            }
        }

        fn choose(&self, left_only: bool) -> Option<usize> {
            let weight = |at: usize| {
                if left_only && self.zones[at].free == 0 {
                    0.0
                } else {
                    self.taste[at]
                }
            };
            let mut dot = self.entropy.unit() * (0..4).map(weight).sum::<f64>();
            (0..4).filter(|&at| weight(at) > 0.0).find(|&at| {
                dot -= weight(at);
                dot <= 0.0
            })
        }

        fn second(&mut self, now: u32, share: f64) {
            for _ in 0..2 {
                if self.visitors.len() < CAPACITY && self.now_serving < FANS {
                    self.now_serving += 1;
                    self.compare(self.now_serving);
                    if self.entropy.unit() < share {
                        let stays = 40 + u32::try_from(self.entropy.below(200)).unwrap();
                        let (wants, seats) = (
                            self.choose(false).unwrap_or(0),
                            1 + u32::try_from(self.entropy.below(4)).unwrap(),
                        );
                        let (takes_at, leaves_at) = (now + stays / 3, now + stays);
                        self.visitors.push(Visitor {
                            wants,
                            seats,
                            takes_at,
                            leaves_at,
                            pays: self.entropy.unit() < 0.85,
                            holds: None,
                        });
                    }
                }
            }
            for at in 0..self.visitors.len() {
                if self.visitors[at].takes_at == now {
                    let wants = self.visitors[at].wants;
                    let takes_other = || {
                        if self.entropy.unit() < 0.7 {
                            self.choose(true)
                        } else {
                            None
                        }
                    };
                    let zone = if self.zones[wants].free > 0 {
                        Some(wants)
                    } else {
                        takes_other()
                    };
                    if let Some(zone) = zone {
                        let seats = self.visitors[at].seats.min(self.zones[zone].free);
                        self.zones[zone].free -= seats;
                        self.zones[zone].held += seats;
                        (self.visitors[at].seats, self.visitors[at].holds) = (seats, Some(zone));
                    }
                }
            }
            for visitor in self.visitors.extract_if(.., |it| it.leaves_at <= now) {
                self.ended += 1;
                if let Some(zone) = visitor.holds {
                    self.zones[zone].held -= visitor.seats;
                    *(if visitor.pays {
                        &mut self.zones[zone].booked
                    } else {
                        &mut self.zones[zone].free
                    }) += visitor.seats;
                }
            }
        }

        /// A number is called: its forecast is compared with what is free.
        fn compare(&mut self, number: u32) {
            for forecasts in self.forecasts.extract_if(.., |it| it.number == number) {
                self.came_true[forecasts.word][0] += 1;
                self.came_true[forecasts.word][1] += u32::from(self.zones[forecasts.zone].free > 0);
            }
        }
    }

    fn statements() -> [[u32; 2]; 3] {
        let mut all = [[0; 2]; 3];
        for seed in 0..60 {
            let (mut sale, mut supply) = (SimulatedSale::new(seed), ZoneAvailability::default());
            let share = 0.5 + 0.5 * sale.entropy.unit();
            for now in 0..4_000 {
                sale.second(now, share);
                let admitted = AdmittedCounts {
                    active: u32::try_from(sale.visitors.len()).unwrap(),
                    capacity: u32::try_from(CAPACITY).unwrap(),
                    ended_total: sale.ended,
                    // What the room measures is a little off.
                    share: share * (0.95 + 0.1 * sale.entropy.unit()),
                    expected: 0.0,
                };
                supply.observe(&sale.zones, &admitted);
                let length = FANS - sale.now_serving;
                if now % 30 == 15 && length > 0 {
                    let line = PeopleAhead::of([(length, length)]);
                    let distances = supply.available_to_distance(&sale.zones, &admitted, &line, length);
                    let distance = u32::try_from(sale.entropy.below(length.into())).unwrap();
                    for (zone, distances) in distances
                        .into_iter()
                        .enumerate()
                        .filter(|(zone, _)| sale.zones[*zone].free > 0)
                    {
                        let [likely, _, hardly] = distances.unwrap().map(|it| it.unwrap_or(u32::MAX));
                        let word = usize::from(distance > likely) + usize::from(distance > hardly);
                        sale.forecasts.push(Forecast {
                            zone,
                            number: sale.now_serving + 1 + distance,
                            word,
                        });
                    }
                }
            }
            for (sum, own) in all.iter_mut().zip(sale.came_true) {
                *sum = [sum[0] + own[0], sum[1] + own[1]];
            }
        }
        all
    }

    #[test]
    fn likely_zones_mostly_have_seats_and_unlikely_ones_do_not() {
        let forecasts = statements();
        let share = |[of, true_]: [u32; 2]| f64::from(true_) / f64::from(of.max(1));
        let [likely, uncertain, unlikely] = forecasts.map(share);
        assert!(forecasts.iter().all(|[of, _]| *of > 200), "{forecasts:?}");
        assert!(
            likely > 0.85 && unlikely < 0.15,
            "{forecasts:?}: {likely} {uncertain} {unlikely}"
        );
        assert!((0.25..0.75).contains(&uncertain), "{forecasts:?}: {uncertain}");
        let all: u32 = forecasts.iter().map(|[of, _]| of).sum();
        assert!(
            forecasts[1][0] * 3 < all,
            "most statements say something: {forecasts:?}"
        );
    }

    #[test]
    fn a_zone_lasts_for_all_or_for_none() {
        let stock = |zone: &str, free| ZoneStock {
            zone: zone.into(),
            free,
            free_for_wheelchairs: 0,
            held: 0,
            booked: 0,
            blocked: 0,
        };
        let zones = [stock("R", 0), stock("S", 100_000)];
        let admitted = AdmittedCounts {
            active: 0,
            capacity: 10,
            ended_total: 0,
            share: 1.0,
            expected: 0.0,
        };
        let (line, mut supply) = (PeopleAhead::of([(500, 500)]), ZoneAvailability::default());
        assert_eq!(
            supply.available_to_distance(&zones, &admitted, &line, 500),
            [None, None],
            "before anything is known"
        );
        supply.observe(&zones, &admitted);
        assert_eq!(
            supply.available_to_distance(&zones, &admitted, &line, 500),
            [Some([Some(0); 3]), Some([None; 3])]
        );
        assert_eq!(
            supply.available_to_distance(&zones[..1], &admitted, &line, 500),
            [None]
        );
    }
}
