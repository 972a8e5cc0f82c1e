//! From arrival number to queue number: who stands where in the line.
//!
//! A first-come sale keeps the order of arrival. A fair draw will shuffle the arrivals before the opening here; all
//! other files speak of queue numbers only.

/// The place in line of the `arrival`-th to join.
#[must_use]
pub(super) const fn queue_number(arrival: u64) -> u64 {
    arrival
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_keeps_the_order_of_arrival() {
        assert!((1..100).all(|arrival| queue_number(arrival) < queue_number(arrival + 1)));
    }
}
