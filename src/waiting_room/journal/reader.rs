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
        draw::digest::Digest,
        journal::chain::{ChainLink, RECORDS_MAX, RawRecord},
        types::JournalLocation,
    },
};

/// Links per query.
pub(super) const PAGE: i64 = 512;

/// A journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// The file or database cannot be opened.
    #[error("cannot open the journal {place}: {source}")]
    Open {
        /// Path of the file, or "in the database".
        place: String,
        /// Error of the connection attempt, or of parsing the URL.
        source: sqlx::Error,
    },
    /// A query fails on the open journal.
    #[error("cannot read the journal: {0}")]
    Read(#[from] sqlx::Error),
    /// A stored sale name is not a valid sale id.
    #[error("the journal holds a sale whose name cannot be: {0}")]
    Name(String),
    /// The named sale is not in the journal.
    #[error("the journal has no sale {0}")]
    NoSale(SaleId),
    /// A record is damaged, or of a later version; the text names its sequence number.
    #[error("{0}")]
    Record(String),
    /// No sale is named, and the journal has none.
    #[error("the journal holds no sale")]
    Empty,
    /// A chain head is given without a sale, and the journal has several sales.
    #[error("a chain head belongs to one sale, and the journal holds several: name it with --sale")]
    WhoseHead,
}

/// The named sale, or all sales of the journal.
pub(crate) async fn select_sales(
    reader: &mut JournalReader,
    sale: Option<&SaleId>,
) -> Result<Vec<SaleId>, JournalReadError> {
    let all = reader.sales().await?;
    match sale {
        Some(one) if all.contains(one) => Ok(vec![one.clone()]),
        Some(one) => Err(JournalReadError::NoSale(one.clone())),
        None if all.is_empty() => Err(JournalReadError::Empty),
        None => Ok(all),
    }
}

/// A read-only view of the journal at one moment.
pub(crate) enum JournalReader {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A row type that both databases can produce.
trait AnyRow: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> AnyRow for T {}

impl JournalReader {
    pub(crate) async fn open(place: &JournalLocation) -> Result<Self, JournalReadError> {
        match place {
            JournalLocation::File(file) => {
                let failed = |source| JournalReadError::Open {
                    place: file.display().to_string(),
                    source,
                };
                let mut connection = read_only(file).connect().await.map_err(failed)?;
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                Ok(Self::Sqlite(connection))
            }
            JournalLocation::Postgres { url } => {
                let failed = |source| JournalReadError::Open {
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
                    .application_name("stagedoor journal")
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

    /// All sales, also one whose records were deleted.
    async fn sales(&mut self) -> Result<Vec<SaleId>, JournalReadError> {
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
            .map(|(name,)| name.parse().map_err(|_| JournalReadError::Name(name)))
            .collect()
    }

    pub(super) async fn links(
        &mut self,
        sale: &SaleId,
        after: u64,
    ) -> Result<Vec<ChainLink>, JournalReadError> {
        let query = "SELECT link_number, last_seq, records, hash FROM chain_link \
                     WHERE sale = $1 AND link_number > $2 ORDER BY link_number LIMIT $3";
        let rows: Vec<(i64, i64, i64, Vec<u8>)> =
            self.rows(query, sale, &[after.cast_signed(), PAGE]).await?;
        let link = |(number, upto, records, hash): (i64, i64, i64, Vec<u8>)| ChainLink {
            number: number.cast_unsigned(),
            upto: upto.cast_unsigned(),
            records: records.cast_unsigned(),
            // One of another length is none that could be right.
            hash: Digest(hash.try_into().unwrap_or_default()),
        };
        Ok(rows.into_iter().map(link).collect())
    }

    /// The records after `after` up to `upto`; at most one more than a link can cover.
    pub(crate) async fn lines(
        &mut self,
        sale: &SaleId,
        after: u64,
        upto: u64,
    ) -> Result<Vec<RawRecord>, JournalReadError> {
        let query = "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 AND seq <= $3 \
            ORDER BY seq LIMIT $4";
        let numbers = [
            after.cast_signed(),
            upto.cast_signed(),
            i64::from(RECORDS_MAX) + 1,
        ];
        let rows: Vec<(i64, String, Vec<u8>)> = self.rows(query, sale, &numbers).await?;
        Ok(rows
            .into_iter()
            .map(|(seq, kind, body)| RawRecord {
                seq: seq.cast_unsigned(),
                kind,
                body,
            })
            .collect())
    }

    pub(super) async fn count_after(&mut self, sale: &SaleId, after: u64) -> Result<u64, JournalReadError> {
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
