//! Operators' commands: checked, written to the journal, and in force once the store has applied them.

use crate::waiting_room::{
    context::{RoomContext, WaitingRoomError},
    journal::record::Event,
    phase::{phase_at, reason_of},
    types::{CommandOutcome, DoorState, NOTICE_CHARS_MAX, OperatorCommand, Phase, Refusal},
};

/// Writes a command to the journal under its operator's name; `None`: the service's own. Effective on this node when this
/// returns, on every other node with its next tick.
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
    context.write(Event::Operator { command, by }).await?;
    Ok(CommandOutcome::Done)
}

fn refusal(context: &RoomContext, command: &OperatorCommand) -> Option<Refusal> {
    match command {
        OperatorCommand::Notice { text: Some(text) } if text.chars().count() > NOTICE_CHARS_MAX => {
            Some(Refusal::NoticeTooLong)
        }
        OperatorCommand::Pause
        | OperatorCommand::Resume
        | OperatorCommand::Rate { .. }
        | OperatorCommand::Capacity { .. }
            if context.phase() == Phase::Closed =>
        {
            Some(Refusal::Closed)
        }
        _ => None,
    }
}

/// How admission is set now.
pub(crate) fn admission_settings(context: &RoomContext) -> DoorState {
    let settings = context.store.settings();
    let active = context.store.counts(context.moment()).active;
    let phase = phase_at(&context.config, &settings, context.clock.now());
    DoorState {
        phase,
        reason: reason_of(phase, &settings, active),
        version: settings.orders,
        paused: settings.paused,
        rate_per_minute: settings.rate_ordered,
        rate_in_force_per_minute: settings.rate_per_minute,
        capacity: settings.capacity,
        active,
        notice: settings.notice.as_deref().map(str::to_owned),
    }
}
