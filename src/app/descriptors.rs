//! How many connections fit into the process's limit of open files.

use anyhow::bail;

use crate::ops::config::Settings;

/// Connections of the admin listener at once: health checks, metrics, operators, reports of other nodes.
pub(super) const ADMIN_CONNECTIONS_MAX: usize = 32;
/// Files that the admin listener keeps open, to have one to spare when other parts have used up the limit.
pub(super) const ADMIN_SPARE_FILES: usize = 4;
/// Files for databases, stores, the shop, the gateway and the runtime.
const OTHER_FILES: usize = 96;
/// Each sale's journal.
const FILES_PER_SALE: usize = 8;
const CONNECTIONS_MIN: usize = 16;

/// The number of public connections that the process's limit of open files allows, at most
/// `server.connections_max`.
///
/// # Errors
/// When the limit is too low to serve at all.
pub(super) fn connections_max(settings: &Settings) -> anyhow::Result<usize> {
    let (limit, _) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    let wanted = settings.server.connections_max;
    let allowed = allowed(wanted, limit, settings.sales.len());
    if allowed < CONNECTIONS_MIN.min(wanted) {
        bail!(
            "this process may open only {limit} files, too few for its databases and any visitors: raise the \
            limit (ulimit -n, or LimitNOFILE of the systemd unit)"
        );
    }
    if allowed < wanted {
        tracing::warn!(
            "server.connections_max is {wanted}, but this process may open only {limit} files: {allowed} \
            connections are accepted at once, and the others wait; raise the limit (ulimit -n, or \
            LimitNOFILE of the systemd unit)"
        );
    }
    Ok(allowed)
}

fn allowed(wanted: usize, limit: u64, sales: usize) -> usize {
    let reserved = ADMIN_CONNECTIONS_MAX + ADMIN_SPARE_FILES + OTHER_FILES + FILES_PER_SALE * sales;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    wanted.min(limit.saturating_sub(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_leaves_files_for_all_else() {
        assert_eq!(allowed(20_000, 1 << 20, 1), 20_000);
        assert_eq!(allowed(20_000, 256, 1), 116);
        assert_eq!(allowed(50, 256, 1), 50);
        assert_eq!(allowed(50, 64, 1), 0);
    }
}
