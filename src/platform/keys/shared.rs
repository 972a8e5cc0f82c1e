//! The same keys for every node, sealed, in a database that the nodes share.

use std::{convert::Infallible, fs, path::Path, sync::Arc, time::Duration};

use sqlx::{PgConnection, migrate::Migrator};

use super::{Keys, KeysError, fresh, seal, unseal};
use crate::{
    kernel::Entropy,
    platform::sql::{self, Database, Place, Trouble},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/platform/keys/migrations");

const DEADLINE: Duration = Duration::from_secs(5);

impl Keys {
    /// Opens the keys that the nodes share (schema `stagedoor_keys`). The first node to come puts them there: those of
    /// `file`, if this house had one node and a key file before, or else new ones. Of nodes that come at once one is the
    /// first, and the others take its keys.
    ///
    /// # Errors
    /// [`KeysError`]: no usable database, or keys that do not open with this master key.
    pub async fn open_or_make_shared(
        url: &str,
        file: &Path,
        master: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let place: Place = url.parse()?;
        let pool = sql::open_postgres(url, "keys", &MIGRATIONS, 1).await?;
        let db = Database::new(pool.clone(), DEADLINE, Arc::clone(&entropy));
        let offered = offer(file, master, entropy.as_ref())?;
        let kept = db.write(offered, |db, offered| Box::pin(keep(db, offered))).await;
        pool.close().await;
        let sealed = kept.map_err(|trouble| match trouble {
            Trouble::Sql(source) => KeysError::Database {
                place: place.clone(),
                source,
            },
            Trouble::Refused(never) => match never {},
        })?;
        let name = || place.to_string();
        let stored = unseal(&sealed, master).ok_or_else(|| KeysError::Sealed { file: name() })?;
        Self::from_secrets(&stored).ok_or_else(|| KeysError::Content { file: name() })
    }
}

/// What this node puts there if nobody has.
fn offer(file: &Path, master: &str, entropy: &dyn Entropy) -> Result<Vec<u8>, KeysError> {
    let name = || file.display().to_string();
    match fs::read(file) {
        Ok(sealed) if unseal(&sealed, master).is_some() => Ok(sealed),
        Ok(_) => Err(KeysError::Sealed { file: name() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(seal(&fresh(entropy), master)),
        Err(source) => Err(KeysError::File { file: name(), source }),
    }
}

/// Keeps what is offered unless something is kept; what is kept then.
async fn keep(db: &mut PgConnection, offered: Vec<u8>) -> Result<Vec<u8>, Trouble<Infallible>> {
    sqlx::query("INSERT INTO sealed_keys (sealed) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(offered)
        .execute(&mut *db)
        .await?;
    Ok(sqlx::query_scalar("SELECT sealed FROM sealed_keys")
        .fetch_one(db)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::OsEntropy, simulation::servers::Postgres};

    async fn open(url: &str, file: &Path, master: &str) -> Result<Keys, KeysError> {
        Keys::open_or_make_shared(url, file, master, Arc::new(OsEntropy)).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_that_start_together_have_the_same_keys_and_open_only_with_their_master_key() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("shared").await.unwrap();
        let none = std::env::temp_dir().join("stagedoor-no-such-keys.json");
        let nodes = futures_util::future::join_all((0..6).map(|_| open(&url, &none, "master"))).await;
        let nodes: Vec<_> = nodes.into_iter().map(Result::unwrap).collect();
        let later = open(&url, &none, "master").await.unwrap();
        for node in &nodes {
            assert_eq!(node.pass.jwks(), later.pass.jwks());
            assert!(node.queue.verify(1, b"m", &later.queue.tag(1, b"m").unwrap()));
        }
        let error = open(&url, &none, "other").await.unwrap_err();
        assert!(matches!(error, KeysError::Sealed { .. }), "{error:?}");
        server
            .run("shared", "UPDATE stagedoor_keys.sealed_keys SET sealed = 'short'")
            .await
            .unwrap();
        assert!(matches!(
            open(&url, &none, "master").await,
            Err(KeysError::Sealed { .. })
        ));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_that_had_one_node_keeps_its_keys() {
        let server = Postgres::start().await.unwrap();
        let dir = std::env::temp_dir().join(format!("stagedoor-shared-keys-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, none) = (dir.join("keys.json"), dir.join("none.json"));
        let old = Keys::open_or_make(&file, "master", &OsEntropy).unwrap();
        let url = server.create_database("moved").await.unwrap();
        assert!(
            matches!(open(&url, &file, "other").await, Err(KeysError::Sealed { .. })),
            "and nothing is put there"
        );
        let first = open(&url, &file, "master").await.unwrap();
        let second = open(&url, &none, "master").await.unwrap();
        assert_eq!(old.ticket.jwks(), first.ticket.jwks());
        assert_eq!(old.ticket.jwks(), second.ticket.jwks());
        fs::remove_dir_all(&dir).unwrap();
    }
}
