//! Scenarios: the kinds of sales that are simulated, a table of data.

/// One kind of sale.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it, in a sentence.
    pub description: &'static str,
    pub(crate) arrivals: Arrivals,
    pub(crate) crowd: Crowd,
    pub(crate) venue: Venue,
    /// Minutes after the start, and what the operator or chance does then.
    pub(crate) disturbances: &'static [(f64, Disturbance)],
}

impl Scenario {
    /// Whether something happens in it that no forecast can know.
    pub fn is_disturbed(&self) -> bool {
        !self.disturbances.is_empty()
    }
}

/// When fans join.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    /// Most before the start, the rest in a minute.
    Flash,
    /// One by one, for as long as the sale lasts.
    Drip,
    /// Half before the start, most others together in the middle of the sale.
    TwoWaves,
}

/// Behavior of fans. Each share and time is that of the average sale; a seed makes it larger or smaller by up
/// to a third.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Share of called fans who are away.
    pub absent: f64,
    /// Share of these who come back later: phones that were asleep.
    pub returning: f64,
    /// Share of accounts that are bots: they come at once, and stay long.
    pub bots: f64,
    /// Share that gives up silently.
    pub impatient: f64,
    /// After how many minutes, on average.
    pub patience_min: f64,
    /// Share that leaves the queue on purpose within an hour.
    pub leaving_per_h: f64,
    /// Median visit in seconds.
    pub visit_median_s: f64,
    /// Standard deviation of the logarithm of visits.
    pub visit_spread: f64,
    /// Share of visits that last as long as allowed.
    pub slow_payers: f64,
}

/// Admission and the seats behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Venue {
    /// Minutes in which the configured rate would admit all fans.
    pub minutes: f64,
    /// Limit of active visits over what the rate alone would keep active: below 1 all slots are taken and
    /// ended visits set the pace.
    pub slot_ratio: f64,
    /// Seats per fan; `None` when there are enough for all.
    pub seats_per_buyer: Option<f64>,
    /// Longest visit that the operator allows, in seconds.
    pub visit_max_s: f64,
}

/// What happens during a sale that no forecast can know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disturbance {
    /// The operator pauses.
    Pause,
    /// The operator resumes.
    Resume,
    /// The rate is so many times the configured one from now on.
    Rate(f64),
    /// Likewise the limit of active visits.
    Capacity(f64),
    /// The box office does not report for so many seconds.
    BoxOfficeSilent(f64),
    /// The waiting room is down for so many seconds, and then knows what its journal holds.
    Restart(f64),
}

const USUAL_CROWD: Crowd = Crowd {
    absent: 0.12,
    returning: 0.5,
    bots: 0.02,
    impatient: 0.10,
    patience_min: 25.0,
    leaving_per_h: 0.05,
    visit_median_s: 100.0,
    visit_spread: 0.8,
    slow_payers: 0.04,
};

/// Fans who know what they want.
const QUICK_CROWD: Crowd = Crowd {
    visit_median_s: 9.0,
    visit_spread: 0.5,
    slow_payers: 0.0,
    bots: 0.0,
    ..USUAL_CROWD
};

const BY_RATE: Venue = Venue {
    minutes: 30.0,
    slot_ratio: 2.5,
    seats_per_buyer: None,
    visit_max_s: 900.0,
};
const BY_SLOTS: Venue = Venue {
    minutes: 16.0,
    slot_ratio: 0.5,
    ..BY_RATE
};

/// All scenarios.
pub const SCENARIOS: [Scenario; 18] = [
    Scenario {
        name: "flash",
        description: "all fans come for the start, slots are many: the rate sets the pace",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_RATE,
        disturbances: &[],
    },
    Scenario {
        name: "drip",
        description: "fans come one by one while the sale goes on",
        arrivals: Arrivals::Drip,
        crowd: USUAL_CROWD,
        venue: Venue {
            minutes: 40.0,
            ..BY_RATE
        },
        disturbances: &[],
    },
    Scenario {
        name: "two-waves",
        description: "a second crowd comes in the middle, all slots are taken: ended visits set the pace",
        arrivals: Arrivals::TwoWaves,
        crowd: USUAL_CROWD,
        venue: BY_SLOTS,
        disturbances: &[],
    },
    Scenario {
        name: "full-house",
        description: "all fans come for the start, all slots are taken after a few minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_SLOTS,
        disturbances: &[],
    },
    Scenario {
        name: "absent",
        description: "six of ten are away when they are called, a third of these come back; slots are few",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            absent: 0.6,
            returning: 0.33,
            ..USUAL_CROWD
        },
        venue: Venue {
            minutes: 9.0,
            slot_ratio: 0.4,
            ..BY_RATE
        },
        disturbances: &[],
    },
    Scenario {
        name: "impatient",
        description: "four of ten give up silently, two of ten an hour leave on purpose",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            impatient: 0.4,
            patience_min: 15.0,
            leaving_per_h: 0.2,
            ..USUAL_CROWD
        },
        venue: BY_RATE,
        disturbances: &[],
    },
    Scenario {
        name: "bots",
        description: "three of ten accounts are bots that come at once and stay long",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            bots: 0.3,
            ..USUAL_CROWD
        },
        venue: BY_SLOTS,
        disturbances: &[],
    },
    Scenario {
        name: "slow-payers",
        description: "visits have a long tail, and one in seven stays as long as may be",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            visit_spread: 1.1,
            slow_payers: 0.15,
            ..USUAL_CROWD
        },
        venue: BY_SLOTS,
        disturbances: &[],
    },
    Scenario {
        name: "sells-out",
        description: "there are seats for one fan in three",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: Venue {
            seats_per_buyer: Some(0.5),
            ..BY_SLOTS
        },
        disturbances: &[],
    },
    Scenario {
        name: "few-seats",
        description: "there are seats for one fan in ten: most are told that hardly a seat will be left",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: Venue {
            seats_per_buyer: Some(0.15),
            ..BY_SLOTS
        },
        disturbances: &[],
    },
    Scenario {
        name: "short-visits",
        description: "visits take ten seconds, and may last two hours",
        arrivals: Arrivals::Flash,
        crowd: QUICK_CROWD,
        venue: Venue {
            visit_max_s: 7_200.0,
            ..BY_SLOTS
        },
        disturbances: &[],
    },
    Scenario {
        name: "short-ceiling",
        description: "visits take ten seconds, and may last twenty minutes",
        arrivals: Arrivals::Flash,
        crowd: QUICK_CROWD,
        venue: Venue {
            visit_max_s: 1_200.0,
            ..BY_SLOTS
        },
        disturbances: &[],
    },
    Scenario {
        name: "long-visits",
        description: "visits take half an hour, and may last two hours",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            visit_median_s: 1_500.0,
            visit_spread: 0.6,
            slow_payers: 0.0,
            bots: 0.0,
            ..USUAL_CROWD
        },
        venue: Venue {
            minutes: 60.0,
            visit_max_s: 7_200.0,
            ..BY_SLOTS
        },
        disturbances: &[],
    },
    Scenario {
        name: "pause",
        description: "the operator pauses the sale for four minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_RATE,
        disturbances: &[(8.0, Disturbance::Pause), (12.0, Disturbance::Resume)],
    },
    Scenario {
        name: "rate-halved",
        description: "the operator halves the rate",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_RATE,
        disturbances: &[(10.0, Disturbance::Rate(0.5))],
    },
    Scenario {
        name: "capacity-lowered",
        description: "the operator lowers the limit of active visits by a third",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_SLOTS,
        disturbances: &[(10.0, Disturbance::Capacity(0.67))],
    },
    Scenario {
        name: "box-office-silent",
        description: "the box office does not report for two minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: Venue {
            seats_per_buyer: Some(9.0),
            ..BY_RATE
        },
        disturbances: &[
            (9.0, Disturbance::BoxOfficeSilent(120.0)),
            (11.0, Disturbance::BoxOfficeSilent(0.0)),
        ],
    },
    Scenario {
        name: "restart",
        description: "the waiting room is down for twenty seconds and recovers from its journal",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        venue: BY_SLOTS,
        disturbances: &[(9.0, Disturbance::Restart(20.0))],
    },
];

/// There is no scenario of this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no scenario {name:?}; known are all, {}", known())]
pub struct UnknownScenario {
    name: String,
}

fn known() -> String {
    SCENARIOS
        .iter()
        .map(|scenario| scenario.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The scenario of this name, or all of them for `all`.
///
/// # Errors
/// [`UnknownScenario`]
pub fn named(name: &str) -> Result<Vec<&'static Scenario>, UnknownScenario> {
    let found: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| name == "all" || scenario.name == name)
        .collect();
    if found.is_empty() {
        Err(UnknownScenario {
            name: name.to_owned(),
        })
    } else {
        Ok(found)
    }
}
