//! Operators' commands: checked, written to the journal, and in force once the store has applied them.

use crate::waiting_room::{
    context::{RoomContext, WaitingRoomError},
    journal::record::Event,
    phase::{phase_at, reason_of},
    state::Settings,
    types::{
        ACTIVE_VISITS_MAX, ADMISSION_RATE_PER_MINUTE_MAX, AdmissionSettings, CommandOutcome, CommandRefusal,
        Config, NOTICE_CHARS_MAX, OperatorCommand, Phase,
    },
};

/// Writes a command to the journal under its operator's name; `None`: the service's own. Effective on this
/// node when this returns, on every other node with its next tick.
///
/// # Errors
/// [`WaitingRoomError`] when it could not be written; nothing has changed then.
pub(crate) async fn carry_out(
    context: &RoomContext,
    command: OperatorCommand,
    by: Option<String>,
) -> Result<CommandOutcome, WaitingRoomError> {
    if let Some(refusal) = refusal(context, &command) {
        return Ok(CommandOutcome::Refused(refusal));
    }
    context
        .write(Event::Operator {
            command,
            operator: by,
        })
        .await?;
    Ok(CommandOutcome::Done)
}

fn refusal(context: &RoomContext, command: &OperatorCommand) -> Option<CommandRefusal> {
    match command {
        OperatorCommand::Notice { text: Some(text) } if text.chars().count() > NOTICE_CHARS_MAX => {
            Some(CommandRefusal::NoticeTooLong)
        }
        OperatorCommand::SetAdmissionRate { per_minute } if *per_minute > ADMISSION_RATE_PER_MINUTE_MAX => {
            Some(CommandRefusal::RateTooHigh)
        }
        OperatorCommand::SetActiveVisitsMax { visits } if *visits > ACTIVE_VISITS_MAX => {
            Some(CommandRefusal::VisitsTooMany)
        }
        OperatorCommand::Close { confirm } if *confirm != context.config.sale => {
            Some(CommandRefusal::NotConfirmed)
        }
        OperatorCommand::Pause
        | OperatorCommand::Resume
        | OperatorCommand::WithdrawClose
        | OperatorCommand::SetAdmissionRate { .. }
        | OperatorCommand::SetActiveVisitsMax { .. }
            if context.phase() == Phase::Closed =>
        {
            Some(CommandRefusal::Closed)
        }
        _ => None,
    }
}

/// What operators' commands have set otherwise than the configuration, a sentence each. Commands outlive a
/// restart, so an editor of the configuration must learn that it is not in force.
pub(crate) fn overrides(config: &Config, settings: &Settings) -> Vec<String> {
    let mut overrides = Vec::new();
    let mut number = |key: &str, configured: u32, commanded: u32| {
        if configured != commanded {
            overrides.push(format!("{key} is {commanded}, not {configured} as configured"));
        }
    };
    number(
        "admission_rate_per_minute",
        config.admission_rate_per_minute,
        settings.rate_configured_per_minute,
    );
    number(
        "active_visits_max",
        config.active_visits_max,
        settings.active_visits_max,
    );
    if let Some(at) = settings.closes_at {
        overrides.push(format!("the sale closes at {at} by command"));
    }
    if settings.paused {
        overrides.push("admission is paused".to_owned());
    }
    overrides
}

/// How admission is set now.
pub(crate) fn admission_settings(context: &RoomContext) -> AdmissionSettings {
    let settings = context.store.settings();
    let active = context.store.counts(context.moment()).active_visits;
    let phase = phase_at(&context.config, &settings, context.clock.now());
    AdmissionSettings {
        phase,
        reason: reason_of(phase, &settings, active),
        version: settings.commands,
        paused: settings.paused,
        closes_by_command_at: settings.closes_at,
        admission_rate_per_minute: settings.rate_configured_per_minute,
        admission_rate_effective_per_minute: settings.rate_effective_per_minute,
        active_visits_max: settings.active_visits_max,
        active_visits: active,
        notice: settings.notice.as_deref().map(str::to_owned),
    }
}
