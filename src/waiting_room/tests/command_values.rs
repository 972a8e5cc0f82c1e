//! Values of operators' commands: their bounds, what overrides the configuration, and the phase that follows.

use super::{
    TempDir,
    room::{config, new_test_room},
};
use crate::waiting_room::{
    commands::overrides,
    journal::record::Event,
    phase::{phase_at, reason_of},
    state::Settings,
    types::{CommandOutcome, CommandRefusal, Config, DelayReason, OperatorCommand, Phase},
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
    settings.closes_at = Some(config.on_sale_starts_at);
    let (commanded, configured) = (
        settings.rate_configured_per_minute,
        config.admission_rate_per_minute,
    );
    assert_eq!(
        overrides(&config, &settings),
        [
            format!("admission_rate_per_minute is {commanded}, not {configured} as configured"),
            format!("the sale closes at {} by command", config.on_sale_starts_at),
            "admission is paused".to_owned(),
        ]
    );
}

/// A draw goes on under a pause; what was ordered meanwhile holds after it.
#[test]
fn a_pause_during_the_draw_holds_after_it() {
    let (drawing, paused) = (
        Config {
            draw: Some(super::draw::terms()),
            ..config()
        },
        OperatorCommand::Pause,
    );
    let now = drawing.on_sale_starts_at;
    let mut settings = Settings::of(&drawing);
    assert_eq!(phase_at(&drawing, &settings, now), Phase::Drawing);
    settings.apply_event(
        &Event::Operator {
            command: paused,
            operator: None,
        },
        now,
    );
    let phase = phase_at(&drawing, &settings, now);
    assert_eq!(
        (phase, reason_of(phase, &settings, 0)),
        (Phase::Drawing, Some(DelayReason::Paused))
    );
    settings.drawn = true;
    let phase = phase_at(&drawing, &settings, now);
    assert_eq!(
        (phase, reason_of(phase, &settings, 0)),
        (Phase::Paused, Some(DelayReason::Paused))
    );
}
