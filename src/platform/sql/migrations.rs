//! Migrations, embedded in the program as the text of their files. Without the macros of `sqlx`, which
//! compile both database drivers a second time for the compiler itself.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The migrations of one database: number, name and SQL of each file. A migration that has been released is
/// never changed: databases remember its checksum.
pub fn migrator(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(number, name, sql): &(i64, &'static str, &'static str)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(number, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}
