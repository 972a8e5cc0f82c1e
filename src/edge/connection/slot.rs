//! Counts the open connections of each client.

use std::{net::IpAddr, sync::Arc};

use dashmap::DashMap;

/// One connection of a client, counted until dropped.
pub(super) struct ConnectionSlot {
    open_by_network: Arc<DashMap<IpAddr, u32>>,
    network: IpAddr,
}

impl ConnectionSlot {
    pub(super) fn take(
        open_by_network: &Arc<DashMap<IpAddr, u32>>,
        network: IpAddr,
        limit: u32,
    ) -> Option<Self> {
        let mut open = open_by_network.entry(network).or_insert(0);
        if limit != 0 && *open >= limit {
            return None;
        }
        *open += 1;
        Some(Self {
            open_by_network: Arc::clone(open_by_network),
            network,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut open) = self.open_by_network.entry(self.network) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_connection_frees_its_slot() {
        let open_by_network = Arc::new(DashMap::new());
        let network = "192.0.2.1".parse().unwrap();
        let first = ConnectionSlot::take(&open_by_network, network, 1);
        assert!(first.is_some());
        assert!(ConnectionSlot::take(&open_by_network, network, 1).is_none());
        drop(first);
        assert!(ConnectionSlot::take(&open_by_network, network, 1).is_some());
        assert!(open_by_network.is_empty());
    }
}
