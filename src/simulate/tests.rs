//! Each scenario, small: invariants, and calibration within loose bounds.

use crate::simulate::*;

fn rehearsed(scenario: &Scenario, fans: u32, seeds: std::ops::Range<u64>) -> (Verdict, Vec<Rehearsal>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let runs: Vec<Rehearsal> = seeds
        .map(|seed| runtime.block_on(rehearse(scenario, fans, seed)).unwrap())
        .collect();
    (judge(scenario, &runs), runs)
}

#[test]
fn an_unknown_scenario_is_told_those_that_are_known() {
    let told = named("flood").unwrap_err().to_string();
    assert!(
        SCENARIOS.iter().all(|scenario| told.contains(scenario.name)),
        "{told}"
    );
    assert_eq!(
        (named("all").unwrap().len(), named("pause").unwrap()[0].name),
        (SCENARIOS.len(), "pause")
    );
}

#[test]
fn a_seed_replays_its_sale() {
    let scenario = named("absent").unwrap()[0];
    let entries = |seed| {
        rehearsed(scenario, 500, seed..seed + 1).1[0]
            .course
            .points
            .iter()
            .map(|p| (p.entries, p.wait_s))
            .collect::<Vec<_>>()
    };
    assert_eq!(entries(7), entries(7));
    assert_ne!(entries(7), entries(8));
}

#[test]
fn no_scenario_breaks_an_invariant() {
    for scenario in &SCENARIOS {
        let (verdict, _) = rehearsed(scenario, 1_500, 1..2);
        assert!(
            verdict.violations.is_empty(),
            "{}: {:#?}",
            scenario.name,
            verdict.violations
        );
        assert!(
            verdict.figures.worth.forecasts > 100,
            "{}: {:?}",
            scenario.name,
            verdict.figures
        );
    }
}

#[test]
fn estimates_are_roughly_what_they_promise() {
    let mut all = Vec::new();
    for name in ["two-waves", "full-house", "impatient", "bots"] {
        let (verdict, runs) = rehearsed(named(name).unwrap()[0], 3_000, 1..3);
        let it = verdict.figures;
        assert!(
            it.worth.coverage.unwrap() > 0.4 && it.worth.p50_error.unwrap() < 0.3,
            "{name}: {it:?}"
        );
        all.extend(runs);
    }
    let pooled = figures(&all);
    assert!(
        (0.6..0.98).contains(&pooled.worth.coverage.unwrap()),
        "{pooled:?}"
    );
    assert!(
        pooled.worth.interval_score_ratio.unwrap() < 0.6 && pooled.worth.p50_error.unwrap() < 0.15,
        "{pooled:?}"
    );
}

#[test]
fn a_house_stays_full_though_most_are_away() {
    let it = rehearsed(named("absent").unwrap()[0], 8_000, 1..2).0.figures;
    // Chance weighs more in a house this small; the bounds of a real one are measured by the command.
    assert!(
        it.slot_use.unwrap() >= 0.97
            && it.met_full_house.unwrap() <= 0.20
            && it.extra_wait_p95_s.unwrap() <= 15.0,
        "{it:?}"
    );
}
