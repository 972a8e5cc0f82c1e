//! Keys in a database that all nodes share, encrypted.

use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use sqlx::{AssertSqlSafe, PgConnection, migrate::Migrator};

use crate::platform::keys::key_set::{Keys, KeysError, decrypt, encrypt, generate};
use crate::{
    kernel::Entropy,
    platform::sql::{self, Database, DatabaseRef, TransactionError},
};

static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| sql::migrator(&[(1, "keys", include_str!("migrations/0001_keys.sql"))]));

const TIMEOUT: Duration = Duration::from_secs(5);

impl Keys {
    /// Reads the keys that the nodes share (schema `stagedoor_keys`). The first node inserts them: those of
    /// `file`, if the service had one node with a key file before, else new ones. Of nodes that start
    /// together one inserts its keys and the others use them.
    ///
    /// # Errors
    /// [`KeysError`]: no usable database, or keys encrypted under another master key.
    pub async fn open_or_create_shared(
        url: &str,
        file: &Path,
        master: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let database: DatabaseRef = url.parse()?;
        let pool = sql::open_postgres(url, "keys", &MIGRATIONS, 1).await?;
        let db = Database::new(pool.clone(), TIMEOUT, Arc::clone(&entropy));
        let local = local_secrets(file, master, entropy.as_ref())?;
        let stored = db
            .write(local, |db, local| Box::pin(insert_or_read(db, local)))
            .await;
        pool.close().await;
        let encrypted = stored.map_err(|error| match error {
            TransactionError::Sql(source) => KeysError::Query {
                database: database.clone(),
                source,
            },
            TransactionError::Rejected(Missing(missing)) => KeysError::Missing {
                database: database.clone(),
                missing,
            },
        })?;
        let name = || database.to_string();
        let secrets =
            decrypt(&encrypted, master).ok_or_else(|| KeysError::WrongMasterKey { file: name() })?;
        Self::from_secrets(&secrets).ok_or_else(|| KeysError::Malformed { file: name() })
    }
}

/// The schemas of this service beside the keys', in the database of the keys.
const CREATED: &str = "SELECT schemaname::text FROM pg_tables
    WHERE tablename = '_sqlx_migrations'
    AND schemaname IN ('stagedoor_queue', 'stagedoor_ledger', 'stagedoor_shop')";

/// Records the schemas that exist now; a later start is refused when one of them is gone.
///
/// # Errors
/// [`KeysError`]
pub async fn record_created_schemas(url: &str) -> Result<(), KeysError> {
    let database: DatabaseRef = url.parse()?;
    let pool = sql::open_postgres(url, "keys", &MIGRATIONS, 1).await?;
    let recorded = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO created_schemas (name) {CREATED} ON CONFLICT DO NOTHING"
    )))
    .execute(&pool)
    .await;
    pool.close().await;
    recorded
        .map(|_| ())
        .map_err(|source| KeysError::Query { database, source })
}

/// What should be in the database and is not.
struct Missing(String);

#[derive(Clone)]
struct LocalSecrets {
    encrypted: Vec<u8>,
    are_new: bool,
}

/// The encrypted secrets that this node inserts if there are none: those of the key file, or new ones.
fn local_secrets(file: &Path, master: &str, entropy: &dyn Entropy) -> Result<LocalSecrets, KeysError> {
    let name = || file.display().to_string();
    match fs::read(file) {
        Ok(encrypted) if decrypt(&encrypted, master).is_some() => Ok(LocalSecrets {
            encrypted,
            are_new: false,
        }),
        Ok(_) => Err(KeysError::WrongMasterKey { file: name() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(LocalSecrets {
            encrypted: encrypt(&generate(entropy), master),
            are_new: true,
        }),
        Err(source) => Err(KeysError::File { file: name(), source }),
    }
}

/// Inserts the local keys unless there are some; returns those in the table. New keys are not inserted beside
/// what was written under others.
async fn insert_or_read(
    db: &mut PgConnection,
    local: LocalSecrets,
) -> Result<Vec<u8>, TransactionError<Missing>> {
    let stored: Option<Vec<u8>> = sqlx::query_scalar("SELECT ciphertext FROM encrypted_keys")
        .fetch_optional(&mut *db)
        .await?;
    let existing: Vec<String> = sqlx::query_scalar(CREATED).fetch_all(&mut *db).await?;
    if stored.is_none() && local.are_new && !existing.is_empty() {
        return Err(TransactionError::Rejected(Missing(
            "the keys (stagedoor_keys.encrypted_keys)".into(),
        )));
    }
    let created: Vec<String> = sqlx::query_scalar("SELECT name FROM created_schemas ORDER BY name")
        .fetch_all(&mut *db)
        .await?;
    let gone: Vec<String> = created
        .into_iter()
        .filter(|schema| !existing.contains(schema))
        .collect();
    if !gone.is_empty() {
        return Err(TransactionError::Rejected(Missing(format!(
            "schema {}",
            gone.join(", ")
        ))));
    }
    if let Some(stored) = stored {
        return Ok(stored);
    }
    sqlx::query("INSERT INTO encrypted_keys (ciphertext) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(local.encrypted)
        .execute(&mut *db)
        .await?;
    Ok(sqlx::query_scalar("SELECT ciphertext FROM encrypted_keys")
        .fetch_one(db)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::OsEntropy;
    use testkit::Postgres;

    async fn open(url: &str, file: &Path, master: &str) -> Result<Keys, KeysError> {
        Keys::open_or_create_shared(url, file, master, Arc::new(OsEntropy)).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_that_start_together_use_the_same_keys() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("shared").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none.json");
        let nodes = futures_util::future::join_all((0..6).map(|_| open(&url, &none, "master"))).await;
        let nodes: Vec<_> = nodes.into_iter().map(Result::unwrap).collect();
        let later = open(&url, &none, "master").await.unwrap();
        for node in &nodes {
            assert_eq!(node.pass.jwks(), later.pass.jwks());
            assert!(node.queue.verify(1, b"m", &later.queue.tag(1, b"m").unwrap()));
        }
        let error = open(&url, &none, "other").await.unwrap_err();
        assert!(matches!(error, KeysError::WrongMasterKey { .. }), "{error:?}");
        server
            .run(
                "shared",
                "UPDATE stagedoor_keys.encrypted_keys SET ciphertext = 'short'",
            )
            .await
            .unwrap();
        assert!(matches!(
            open(&url, &none, "master").await,
            Err(KeysError::WrongMasterKey { .. })
        ));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_keys_of_a_single_node_are_taken_over() {
        let server = Postgres::start().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let none = dir.path().join("none.json");
        let old = Keys::open_or_create(&file, "master", &OsEntropy).unwrap();
        let url = server.create_database("moved").await.unwrap();
        assert!(
            matches!(
                open(&url, &file, "other").await,
                Err(KeysError::WrongMasterKey { .. })
            ),
            "and nothing is inserted"
        );
        let first = open(&url, &file, "master").await.unwrap();
        let second = open(&url, &none, "master").await.unwrap();
        assert_eq!(old.ticket.jwks(), first.ticket.jwks());
        assert_eq!(old.ticket.jwks(), second.ticket.jwks());
    }
}
