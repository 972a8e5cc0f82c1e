//! Each scenario, small: invariants, and calibration within loose bounds.

use super::*;

fn rehearsed(scenario: &Scenario, fans: u32, seeds: std::ops::Range<u64>) -> (Verdict, Vec<Rehearsal>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let runs: Vec<Rehearsal> = seeds.map(|seed| runtime.block_on(rehearse(scenario, fans, seed)).unwrap()).collect();
    (judge(scenario, &runs), runs)
}

#[test]
fn an_unknown_scenario_is_told_those_that_are_known() {
    let told = named("flood").unwrap_err().to_string();
    assert!(SCENARIOS.iter().all(|scenario| told.contains(scenario.name)), "{told}");
    assert_eq!((named("all").unwrap().len(), named("pause").unwrap()[0].name), (SCENARIOS.len(), "pause"));
}

#[test]
fn a_seed_replays_its_sale() {
    let scenario = named("absent").unwrap()[0];
    let entries =
        |seed| rehearsed(scenario, 500, seed..seed + 1).1[0].course.points.iter().map(|p| (p.entries, p.wait_s)).collect::<Vec<_>>();
    assert_eq!(entries(7), entries(7));
    assert_ne!(entries(7), entries(8));
}

#[test]
fn no_scenario_breaks_an_invariant() {
    for scenario in &SCENARIOS {
        let (verdict, _) = rehearsed(scenario, 1_500, 1..2);
        assert!(verdict.violations.is_empty(), "{}: {:#?}", scenario.name, verdict.violations);
        assert!(verdict.figures.forecasts > 100, "{}: {:?}", scenario.name, verdict.figures);
    }
}
