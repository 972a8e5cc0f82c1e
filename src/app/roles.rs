//! Roles of a process.

/// What a process serves. The two roles can run in processes of their own, so that a rush at admission takes
/// nothing from customers who are choosing seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Both roles.
    All,
    /// Queue, status and admission.
    WaitingRoom,
    /// Seats, orders and tickets.
    BoxOffice,
}

impl Roles {
    pub(super) fn has_waiting_room(self) -> bool {
        self != Self::BoxOffice
    }

    pub(super) fn has_box_office(self) -> bool {
        self != Self::WaitingRoom
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.has_waiting_room(), "waiting-room"),
            (self.has_box_office(), "box-office"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
    }
}
