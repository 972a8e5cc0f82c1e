//! How many of one thing each client has at once, such as connections. A client is an IPv4 address or an IPv6
//! /64.

use std::{net::IpAddr, sync::Arc};

use dashmap::DashMap;

use crate::edge::overload::client_ip::client_network;

/// What each client has of one thing.
#[derive(Clone, Debug, Default)]
pub struct ClientSlots(Arc<DashMap<IpAddr, u32>>);

/// One of a client's things, counted until dropped.
pub(crate) struct ClientSlot {
    slots: ClientSlots,
    client: IpAddr,
}

impl ClientSlots {
    /// One more for the client at this address; `None` when it has `limit` already. 0 means no limit.
    pub(crate) fn take(&self, address: IpAddr, limit: u32) -> Option<ClientSlot> {
        let client = client_network(address);
        let mut taken = self.0.entry(client).or_insert(0);
        if limit != 0 && *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(ClientSlot {
            slots: self.clone(),
            client,
        })
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut taken) = self.slots.0.entry(self.client) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_once_dropped_and_leaves_nothing_behind() {
        let slots = ClientSlots::default();
        let address = "192.0.2.1".parse().unwrap();
        let first = slots.take(address, 1);
        assert!(first.is_some());
        assert!(slots.take(address, 1).is_none());
        assert!(slots.take("192.0.2.2".parse().unwrap(), 1).is_some());
        drop(first);
        assert!(slots.take(address, 1).is_some());
        assert!(slots.0.is_empty());
    }
}
