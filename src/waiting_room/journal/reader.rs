//! Read-only access to a journal, for verification and listing.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, FromRow, PgConnection, SqliteConnection,
    postgres::{PgConnectOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::{
    kernel::SaleId,
    waiting_room::{
        JournalPlace,
        draw::digest::Digest,
        journal::chain::{Line, Link, RECORDS_MAX},
    },
};

/// Links fetched at once.
pub(super) const PAGE: i64 = 512;

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the journal {place}: {source}")]
    Open { place: String, source: sqlx::Error },
    #[error("cannot read the journal: {0}")]
    Read(#[from] sqlx::Error),
    #[error("the journal holds a sale whose name cannot be: {0}")]
    Name(String),
    #[error("the journal has no sale {0}")]
    NoSale(SaleId),
    #[error("{0}")]
    Record(String),
    #[error("the journal holds no sale")]
    Empty,
    #[error("a head belongs to one sale, and the journal holds several: name it with --sale")]
    WhoseHead,
}

/// That sale, or all there are.
pub(crate) async fn chosen(book: &mut Book, sale: Option<&SaleId>) -> Result<Vec<SaleId>, LogError> {
    let all = book.sales().await?;
    match sale {
        Some(one) if all.contains(one) => Ok(vec![one.clone()]),
        Some(one) => Err(LogError::NoSale(one.clone())),
        None if all.is_empty() => Err(LogError::Empty),
        None => Ok(all),
    }
}

/// The journal at one moment, read only.
pub(crate) enum Book {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A row that both engines give.
trait AnyRow: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> AnyRow for T {}

impl Book {
    pub(crate) async fn open(place: &JournalPlace) -> Result<Self, LogError> {
        match place {
            JournalPlace::File(file) => {
                let failed = |source| LogError::Open {
                    place: file.display().to_string(),
                    source,
                };
                let mut connection = read_only(file).connect().await.map_err(failed)?;
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                Ok(Self::Sqlite(connection))
            }
            JournalPlace::Postgres { url } => {
                let failed = |source| LogError::Open {
                    place: "in the database".to_owned(),
                    source,
                };
                let options: PgConnectOptions = url.parse().map_err(failed)?;
                let options = options.options([
                    ("search_path", "stagedoor_queue"),
                    ("statement_timeout", "60s"),
                    ("lock_timeout", "5s"),
                ]);
                let mut connection = options
                    .application_name("stagedoor log")
                    .connect()
                    .await
                    .map_err(failed)?;
                sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .execute(&mut connection)
                    .await?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    async fn rows<T: AnyRow>(
        &mut self,
        query: &'static str,
        sale: &SaleId,
        numbers: &[i64],
    ) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Self::Sqlite(it) => {
                numbers
                    .iter()
                    .fold(sqlx::query_as(query).bind(sale.as_str()), |query, n| {
                        query.bind(*n)
                    })
                    .fetch_all(it)
                    .await
            }
            Self::Postgres(it) => {
                numbers
                    .iter()
                    .fold(sqlx::query_as(query).bind(sale.as_str()), |query, n| {
                        query.bind(*n)
                    })
                    .fetch_all(it)
                    .await
            }
        }
    }

    /// Those that it knows, also one whose records are gone.
    async fn sales(&mut self) -> Result<Vec<SaleId>, LogError> {
        let names: Vec<(String,)> = match self {
            Self::Sqlite(it) => {
                sqlx::query_as("SELECT sale FROM journal UNION SELECT sale FROM chain_link ORDER BY sale")
                    .fetch_all(it)
                    .await?
            }
            Self::Postgres(it) => {
                sqlx::query_as("SELECT sale FROM journal_head ORDER BY sale")
                    .fetch_all(it)
                    .await?
            }
        };
        names
            .into_iter()
            .map(|(name,)| name.parse().map_err(|_| LogError::Name(name)))
            .collect()
    }

    pub(super) async fn links(&mut self, sale: &SaleId, after: u64) -> Result<Vec<Link>, LogError> {
        let query = "SELECT link_number, last_seq, records, hash FROM chain_link \
                     WHERE sale = $1 AND link_number > $2 ORDER BY link_number LIMIT $3";
        let rows: Vec<(i64, i64, i64, Vec<u8>)> =
            self.rows(query, sale, &[after.cast_signed(), PAGE]).await?;
        let link = |(number, upto, records, hash): (i64, i64, i64, Vec<u8>)| Link {
            number: number.cast_unsigned(),
            upto: upto.cast_unsigned(),
            records: records.cast_unsigned(),
            // One of another length is none that could be right.
            hash: Digest(hash.try_into().unwrap_or_default()),
        };
        Ok(rows.into_iter().map(link).collect())
    }

    /// Those after `after` up to `upto`; one more than a link can be over at most.
    pub(crate) async fn lines(
        &mut self,
        sale: &SaleId,
        after: u64,
        upto: u64,
    ) -> Result<Vec<Line>, LogError> {
        let query = "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
        let numbers = [
            after.cast_signed(),
            upto.cast_signed(),
            i64::from(RECORDS_MAX) + 1,
        ];
        let rows: Vec<(i64, String, Vec<u8>)> = self.rows(query, sale, &numbers).await?;
        Ok(rows
            .into_iter()
            .map(|(seq, kind, body)| Line {
                seq: seq.cast_unsigned(),
                kind,
                body,
            })
            .collect())
    }

    pub(super) async fn count_after(&mut self, sale: &SaleId, after: u64) -> Result<u64, LogError> {
        let query = "SELECT count(*) FROM journal WHERE sale = $1 AND seq > $2";
        let rows: Vec<(i64,)> = self.rows(query, sale, &[after.cast_signed()]).await?;
        Ok(rows.first().map_or(0, |(count,)| count.cast_unsigned()))
    }
}

fn read_only(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
}
