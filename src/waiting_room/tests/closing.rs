//! The command to close a sale: confirmed, delayed, and withdrawn.

use super::{
    TempDir,
    room::{config, new_test_room},
};
use crate::{
    kernel::Clock,
    waiting_room::{
        journal::record::Event,
        phase::phase_at,
        state::Settings,
        types::{CLOSE_DELAY, CommandOutcome, CommandRefusal, DelayReason, OperatorCommand, Phase},
    },
};

#[tokio::test]
async fn closing_is_confirmed_and_can_be_withdrawn() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(250);
    let order = async |command: OperatorCommand| test.room.command(command, "kim").await.unwrap();
    let mistaken = OperatorCommand::Close {
        confirm: "another".parse().unwrap(),
    };
    assert_eq!(
        order(mistaken).await,
        CommandOutcome::Refused(CommandRefusal::NotConfirmed)
    );
    assert_eq!(test.room.admission_settings().version, 0);
    let closes_at = test.clock.now().plus(CLOSE_DELAY);
    order(close()).await;
    order(OperatorCommand::Resume).await;
    test.passes(1);
    order(close()).await;
    let settings = test.room.admission_settings();
    assert_eq!(
        (settings.phase, settings.reason, settings.closes_by_command_at),
        (Phase::Paused, Some(DelayReason::Paused), Some(closes_at)),
        "a second command changes nothing, and resuming does not withdraw it"
    );
    order(OperatorCommand::WithdrawClose).await;
    let settings = test.room.admission_settings();
    assert_eq!(
        (settings.phase, settings.closes_by_command_at),
        (Phase::OnSale, None)
    );
    test.passes(CLOSE_DELAY.as_secs());
    assert_eq!(test.room.phase(), Phase::OnSale);
    order(OperatorCommand::WithdrawClose).await;
    test.life.stop();
}

/// The confirmed command to close the sale of these tests.
pub(super) fn close() -> OperatorCommand {
    OperatorCommand::Close {
        confirm: config().sale,
    }
}

#[test]
fn a_withdrawal_after_the_delay_does_not_open_a_closed_sale() {
    let config = config();
    let now = config.on_sale_starts_at;
    let mut settings = Settings::of(&config);
    let mut apply = |command, at| {
        let operator = None;
        settings.apply_event(&Event::Operator { command, operator }, at);
        settings.closes_at
    };
    let at = now.plus(CLOSE_DELAY);
    assert_eq!(apply(close(), now), Some(at));
    assert_eq!(apply(OperatorCommand::WithdrawClose, at), Some(at));
    assert_eq!(phase_at(&config, &settings, at), Phase::Closed);
}
