//! Who asked to be told when they are called: beside the journal, because a request is deleted once it is
//! carried out.

use async_trait::async_trait;

use crate::waiting_room::journal::port::JournalError;

/// A request to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallNotice {
    /// Arrival number of the entry.
    pub arrival: u32,
    /// The customer, encrypted.
    pub customer: Vec<u8>,
}

/// The requests of one sale. Any number of nodes use it.
#[async_trait]
pub(crate) trait NoticeStore: Send + Sync + 'static {
    /// Keeps requests, durably when this returns. Of an entry that has one already, the first stays.
    async fn keep(&self, notices: &[CallNotice]) -> Result<(), JournalError>;

    /// The requests of these entries, as far as there are any.
    async fn of_arrivals(&self, arrivals: &[u32]) -> Result<Vec<CallNotice>, JournalError>;

    /// Deletes the requests of these entries.
    async fn remove(&self, arrivals: &[u32]) -> Result<(), JournalError>;

    /// Deletes every request.
    async fn remove_all(&self) -> Result<(), JournalError>;
}

#[cfg(test)]
pub(crate) mod conformance {
    use super::*;

    fn notice(arrival: u32, customer: &[u8]) -> CallNotice {
        CallNotice {
            arrival,
            customer: customer.to_vec(),
        }
    }

    /// `open` opens the store of a sale; two sales share their database.
    pub(crate) async fn keeps_requests_until_they_are_removed<S: NoticeStore, F: Future<Output = S>>(
        open: impl Fn(&'static str) -> F,
    ) {
        let (spring, autumn) = (open("spring").await, open("autumn").await);
        let of = async |store: &S, arrivals: &[u32]| {
            let mut found = store.of_arrivals(arrivals).await.unwrap();
            found.sort_by_key(|notice| notice.arrival);
            found
        };
        spring.keep(&[]).await.unwrap();
        let asked = [notice(2, b"a"), notice(7, b"\x00\xff"), notice(u32::MAX, b"c")];
        spring.keep(&asked).await.unwrap();
        spring
            .keep(&[notice(2, b"again"), notice(3, b"d")])
            .await
            .unwrap();
        autumn.keep(&[notice(7, b"e")]).await.unwrap();
        assert_eq!(of(&spring, &[1, 2, 7, u32::MAX]).await, asked);
        assert_eq!(of(&spring, &[]).await, []);
        assert_eq!(of(&autumn, &[2, 7]).await, [notice(7, b"e")]);
        spring.remove(&[1, 2]).await.unwrap();
        assert_eq!(of(&spring, &[2, 3]).await, [notice(3, b"d")]);
        spring.remove_all().await.unwrap();
        assert_eq!(of(&spring, &[3, 7]).await, []);
        assert_eq!(of(&autumn, &[7]).await, [notice(7, b"e")]);
    }
}
