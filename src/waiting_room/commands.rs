//! Operators' commands: checked, written to the journal, and in force once the store has applied them.

use crate::waiting_room::{
    context::{RoomContext, WaitingRoomError},
    journal::record::Event,
    phase::{phase_at, reason_of},
    types::{AdmissionSettings, CommandOutcome, CommandRefusal, NOTICE_CHARS_MAX, OperatorCommand, Phase},
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
        OperatorCommand::Pause
        | OperatorCommand::Resume
        | OperatorCommand::SetAdmissionRate { .. }
        | OperatorCommand::SetActiveVisitsMax { .. }
            if context.phase() == Phase::Closed =>
        {
            Some(CommandRefusal::Closed)
        }
        _ => None,
    }
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
        admission_rate_per_minute: settings.rate_configured_per_minute,
        admission_rate_effective_per_minute: settings.rate_effective_per_minute,
        active_visits_max: settings.active_visits_max,
        active_visits: active,
        notice: settings.notice.as_deref().map(str::to_owned),
    }
}
