//! The sales that are rehearsed: a table of data.

/// One kind of sale.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What it is, in a sentence.
    pub what: &'static str,
    pub(crate) arrivals: Arrivals,
    pub(crate) crowd: Crowd,
    pub(crate) house: House,
    /// What the operator or chance does: minutes after the opening, and what.
    pub(crate) surprises: &'static [(f64, Surprise)],
}

impl Scenario {
    /// Whether something happens in it that no estimate can foresee.
    pub fn is_disturbed(&self) -> bool {
        !self.surprises.is_empty()
    }
}

/// When fans take their place in line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    /// Most before the opening, the rest in a minute.
    Flash,
    /// One by one, for as long as the sale lasts.
    Drip,
    /// Half before the opening, most others together in the middle of the sale.
    TwoWaves,
}

/// How fans behave. Each share and time is that of the average sale; a seed makes it larger or smaller by up to a third.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Share of those called who are away, and of these the share that comes back later: phones that were asleep.
    pub absent: f64,
    pub returning: f64,
    /// Share of accounts that are a bot's: they come at once, and stay long.
    pub bots: f64,
    /// Share that gives up without a word, and after how many minutes on average.
    pub impatient: f64,
    pub patience_min: f64,
    /// Share that leaves the line on purpose within an hour.
    pub leaving_per_h: f64,
    /// A visit's median in seconds, its long tail (the standard deviation of its logarithm), and the share of visitors
    /// who stay for as long as they may.
    pub visit_median_s: f64,
    pub visit_spread: f64,
    pub slow_payers: f64,
}

/// The door and what is behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct House {
    /// The configured rate would let everybody in within so many minutes.
    pub minutes: f64,
    /// Capacity over what the rate alone would keep inside: below 1 the house fills up and its departures set the pace.
    pub room: f64,
    /// Seats over fans; `None` when there are enough for all.
    pub seats_per_fan: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Surprise {
    Pause,
    Resume,
    /// The rate is so many times the configured one from now on.
    Rate(f64),
    /// Likewise the capacity.
    Capacity(f64),
    /// The box office is not heard of for so many seconds.
    BoxOfficeSilent(f64),
    /// The room is away for so many seconds, and knows then what its journal holds.
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

const BY_RATE: House = House {
    minutes: 30.0,
    room: 2.5,
    seats_per_fan: None,
};
const BY_HOUSE: House = House {
    minutes: 16.0,
    room: 0.5,
    seats_per_fan: None,
};

/// Every scenario there is.
pub const SCENARIOS: [Scenario; 14] = [
    Scenario {
        name: "flash",
        what: "everybody comes for the opening, the house is large: the rate sets the pace",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_RATE,
        surprises: &[],
    },
    Scenario {
        name: "drip",
        what: "fans come one by one while the sale goes on",
        arrivals: Arrivals::Drip,
        crowd: USUAL_CROWD,
        house: House {
            minutes: 40.0,
            ..BY_RATE
        },
        surprises: &[],
    },
    Scenario {
        name: "two-waves",
        what: "a second crowd comes in the middle, the house is full: departures set the pace",
        arrivals: Arrivals::TwoWaves,
        crowd: USUAL_CROWD,
        house: BY_HOUSE,
        surprises: &[],
    },
    Scenario {
        name: "full-house",
        what: "everybody comes for the opening, the house is full after a few minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_HOUSE,
        surprises: &[],
    },
    Scenario {
        name: "absent",
        what: "six of ten are away when they are called, a third of these come back; the house is full",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            absent: 0.6,
            returning: 0.33,
            ..USUAL_CROWD
        },
        house: House {
            minutes: 9.0,
            room: 0.4,
            seats_per_fan: None,
        },
        surprises: &[],
    },
    Scenario {
        name: "impatient",
        what: "four of ten give up without a word, two of ten an hour leave on purpose",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            impatient: 0.4,
            patience_min: 15.0,
            leaving_per_h: 0.2,
            ..USUAL_CROWD
        },
        house: BY_RATE,
        surprises: &[],
    },
    Scenario {
        name: "bots",
        what: "three of ten accounts are bots that come at once and stay long",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            bots: 0.3,
            ..USUAL_CROWD
        },
        house: BY_HOUSE,
        surprises: &[],
    },
    Scenario {
        name: "slow-payers",
        what: "visits have a long tail, and one in seven stays as long as may be",
        arrivals: Arrivals::Flash,
        crowd: Crowd {
            visit_spread: 1.1,
            slow_payers: 0.15,
            ..USUAL_CROWD
        },
        house: BY_HOUSE,
        surprises: &[],
    },
    Scenario {
        name: "sells-out",
        what: "there are seats for one fan in three",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: House {
            seats_per_fan: Some(0.5),
            ..BY_HOUSE
        },
        surprises: &[],
    },
    Scenario {
        name: "pause",
        what: "the operator pauses the sale for four minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_RATE,
        surprises: &[(8.0, Surprise::Pause), (12.0, Surprise::Resume)],
    },
    Scenario {
        name: "rate-halved",
        what: "the operator halves the rate",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_RATE,
        surprises: &[(10.0, Surprise::Rate(0.5))],
    },
    Scenario {
        name: "capacity-lowered",
        what: "the operator lowers the capacity by a third",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_HOUSE,
        surprises: &[(10.0, Surprise::Capacity(0.67))],
    },
    Scenario {
        name: "box-office-silent",
        what: "nothing is heard of the box office for two minutes",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: House {
            seats_per_fan: Some(9.0),
            ..BY_RATE
        },
        surprises: &[
            (9.0, Surprise::BoxOfficeSilent(120.0)),
            (11.0, Surprise::BoxOfficeSilent(0.0)),
        ],
    },
    Scenario {
        name: "restart",
        what: "the room is away for twenty seconds and comes back with its journal",
        arrivals: Arrivals::Flash,
        crowd: USUAL_CROWD,
        house: BY_HOUSE,
        surprises: &[(9.0, Surprise::Restart(20.0))],
    },
];

/// Nothing of this name is rehearsed.
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

/// The scenario of this name, or all of them.
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
