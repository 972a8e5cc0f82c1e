//! Values of operators' commands: their bounds, and what overrides the configuration.

use super::{
    TempDir,
    room::{config, new_test_room},
};
use crate::waiting_room::{
    commands::overrides,
    state::Settings,
    types::{CommandOutcome, CommandRefusal, OperatorCommand},
};

#[tokio::test]
async fn values_beyond_the_bounds_are_refused() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    for (command, refusal) in [
        (
            OperatorCommand::SetAdmissionRate {
                per_minute: 4_000_000_000,
            },
            CommandRefusal::RateTooHigh,
        ),
        (
            OperatorCommand::SetActiveVisitsMax {
                visits: 4_000_000_000,
            },
            CommandRefusal::VisitsTooMany,
        ),
    ] {
        let outcome = test.room.command(command, "kim").await.unwrap();
        assert_eq!(outcome, CommandOutcome::Refused(refusal));
    }
    assert_eq!(test.room.admission_settings().version, 0);
    test.life.stop();
}

#[test]
fn commands_that_override_the_configuration_are_named() {
    let config = config();
    let mut settings = Settings::of(&config);
    assert!(overrides(&config, &settings).is_empty());
    settings.rate_configured_per_minute += 7;
    settings.paused = true;
    let (commanded, configured) = (
        settings.rate_configured_per_minute,
        config.admission_rate_per_minute,
    );
    assert_eq!(
        overrides(&config, &settings),
        [
            format!("admission_rate_per_minute is {commanded}, not {configured} as configured"),
            "admission is paused".to_owned(),
        ]
    );
}
