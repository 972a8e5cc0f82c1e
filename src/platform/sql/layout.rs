//! Detects databases of an older layout.

use std::collections::HashMap;

use sqlx::migrate::Migrator;

/// Applied migrations, as in the table `_sqlx_migrations`: version and checksum.
pub(super) type Applied = Vec<(i64, Vec<u8>)>;

/// Whether an applied migration differs from this program's migration of the same version.
///
/// The first migration is edited in place while there are no installations to keep, so this is how a database
/// of before shows. It must be checked before the migrator runs: the migrator reports versions that it does
/// not know first, which would look like a newer program's database.
pub(super) fn is_older(applied: &Applied, migrations: &Migrator) -> bool {
    let ours: HashMap<i64, &[u8]> = migrations
        .iter()
        .map(|migration| (migration.version, &*migration.checksum))
        .collect();
    applied
        .iter()
        .any(|(version, checksum)| ours.get(version).is_some_and(|ours| *ours != checksum.as_slice()))
}
