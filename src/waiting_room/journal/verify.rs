//! Whether a journal is still what its chain was made over. It only reads, and may do so beside a running house.

use std::{path::Path, time::Duration};

use serde::Serialize;
use sqlx::{
    ConnectOptions, FromRow, PgConnection, SqliteConnection,
    postgres::{PgConnectOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::chain::{Line, Link, RECORDS_MAX};
use crate::{
    kernel::SaleId,
    waiting_room::{JournalPlace, draw::Digest},
};

/// Links fetched at once.
const PAGE: i64 = 512;

/// What a sale's log is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedLog {
    pub sale: SaleId,
    /// Records that are linked, and right.
    pub records: u64,
    /// The last link that is right; 0 where there is none.
    pub link: u64,
    /// Its hash.
    pub hash: Digest,
    /// Records that came after the last link: nothing is said of them yet.
    pub not_linked: u64,
    /// The first thing that is wrong.
    pub fault: Option<LogFault>,
}

/// What is wrong with a link, or with the chain at that link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFault {
    pub link: u64,
    pub why: String,
}

/// A link, as the board shows the last one and as somebody may have written it down: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LogHead {
    pub link: u64,
    pub hash: Digest,
}

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

/// Reckons every link of a journal again: of one sale, or of all there are; and holds the chain against a link that was
/// remembered.
///
/// # Errors
/// [`LogError`] where it cannot be read. What is wrong with it is no error, but what was asked for.
pub async fn check_log(
    place: &JournalPlace,
    sale: Option<&SaleId>,
    head: Option<LogHead>,
) -> Result<Vec<CheckedLog>, LogError> {
    let mut book = Book::open(place).await?;
    let chosen = chosen(&mut book, sale).await?;
    if head.is_some() && chosen.len() > 1 {
        return Err(LogError::WhoseHead);
    }
    let mut checked = Vec::new();
    for sale in chosen {
        checked.push(check(&mut book, sale, head).await?);
    }
    Ok(checked)
}

/// That sale, or all there are.
pub(super) async fn chosen(book: &mut Book, sale: Option<&SaleId>) -> Result<Vec<SaleId>, LogError> {
    let all = book.sales().await?;
    match sale {
        Some(one) if all.contains(one) => Ok(vec![one.clone()]),
        Some(one) => Err(LogError::NoSale(one.clone())),
        None if all.is_empty() => Err(LogError::Empty),
        None => Ok(all),
    }
}

async fn check(book: &mut Book, sale: SaleId, head: Option<LogHead>) -> Result<CheckedLog, LogError> {
    let mut right = Link::genesis(&sale);
    let mut checked = CheckedLog {
        sale,
        records: 0,
        link: 0,
        hash: right.hash,
        not_linked: 0,
        fault: None,
    };
    'links: loop {
        let page = book.links(&checked.sale, right.number).await?;
        let full = page.len() == usize::try_from(PAGE).expect("a page is small");
        for kept in page {
            let lines = book.lines(&checked.sale, right.upto, kept.upto).await?;
            let fault = fault_of(&right, &kept, &lines, head);
            right = kept;
            if fault.is_some() {
                checked.fault = fault;
                break 'links;
            }
            checked.records += kept.records;
            (checked.link, checked.hash) = (kept.number, kept.hash);
        }
        if !full {
            break;
        }
    }
    if checked.fault.is_none() {
        checked.not_linked = book.count_after(&checked.sale, right.upto).await?;
        checked.fault = head.filter(|it| it.link > checked.link).map(|it| LogFault {
            link: it.link,
            why: match checked.link {
                0 => "it was there, and the log has no link now".to_owned(),
                last => format!("it was there, and the log ends with link {last} now"),
            },
        });
    }
    Ok(checked)
}

/// What is wrong with `kept`, when all before it is right.
fn fault_of(before: &Link, kept: &Link, lines: &[Line], head: Option<LogHead>) -> Option<LogFault> {
    let expected = before.number + 1;
    if kept.number != expected {
        return Some(LogFault {
            link: expected,
            why: format!("it is missing; link {} comes next", kept.number),
        });
    }
    let (from, upto, there) = (before.upto + 1, kept.upto, lines.len() as u64);
    let why = if there != kept.records || there == 0 {
        let there = if there > u64::from(RECORDS_MAX) {
            "more".to_owned()
        } else {
            there.to_string()
        };
        Some(format!(
            "it was made over {} records, and between {from} and {upto} there are {there}",
            kept.records
        ))
    } else if before.next(lines) != *kept {
        Some(format!(
            "the records {from} to {upto} are not those that it was made over, or it is not what was made"
        ))
    } else {
        head.filter(|it| it.link == kept.number && it.hash != kept.hash)
            .map(|_| "its hash is not the one that was remembered: the log was written anew".to_owned())
    };
    why.map(|why| LogFault { link: expected, why })
}

/// The journal at one moment, read only.
pub(super) enum Book {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A row that both engines give.
trait AnyRow: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> AnyRow for T {}

impl Book {
    pub(super) async fn open(place: &JournalPlace) -> Result<Self, LogError> {
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
        let has_chain = self.has_chain().await?;
        let names: Vec<(String,)> = match self {
            Self::Sqlite(it) if has_chain => {
                sqlx::query_as("SELECT sale FROM journal UNION SELECT sale FROM link ORDER BY sale")
                    .fetch_all(it)
                    .await?
            }
            Self::Sqlite(it) => {
                sqlx::query_as("SELECT DISTINCT sale FROM journal ORDER BY sale")
                    .fetch_all(it)
                    .await?
            }
            Self::Postgres(it) => {
                sqlx::query_as("SELECT sale FROM head ORDER BY sale")
                    .fetch_all(it)
                    .await?
            }
        };
        names
            .into_iter()
            .map(|(name,)| name.parse().map_err(|_| LogError::Name(name)))
            .collect()
    }

    /// Whether a house that chains its journal has opened it.
    async fn has_chain(&mut self) -> Result<bool, LogError> {
        Ok(match self {
            Self::Sqlite(it) => {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'link')")
                    .fetch_one(it)
                    .await?
            }
            Self::Postgres(it) => {
                sqlx::query_scalar("SELECT to_regclass('link') IS NOT NULL")
                    .fetch_one(it)
                    .await?
            }
        })
    }

    async fn links(&mut self, sale: &SaleId, after: u64) -> Result<Vec<Link>, LogError> {
        if !self.has_chain().await? {
            return Ok(Vec::new());
        }
        let query = "SELECT number, upto, records, hash FROM link WHERE sale = $1 AND number > $2 ORDER BY number LIMIT $3";
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
    pub(super) async fn lines(
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

    async fn count_after(&mut self, sale: &SaleId, after: u64) -> Result<u64, LogError> {
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

#[cfg(test)]
mod tests {
    use std::future::Future;

    use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

    use super::*;
    use crate::{
        simulation::servers::Postgres,
        waiting_room::{
            journal::{
                Journal, PgJournal, SqliteJournal,
                chain::{Chain, contract::joined, extend},
            },
            tests::TempDir,
        },
    };

    /// What somebody does to a sale's log of twelve records in four links, at which link it is found out, and what is said.
    /// `:U` is the last record of link 2.
    const CHANGES: &[(&str, u64, &str)] = &[
        (
            "UPDATE journal SET body = (SELECT body FROM journal WHERE seq = :U - 1 AND sale = 'SALE') WHERE seq = :U AND sale = 'SALE'",
            2,
            "not those",
        ),
        ("UPDATE journal SET kind = 'event' WHERE seq = :U AND sale = 'SALE'", 2, "not those"),
        ("DELETE FROM journal WHERE seq = :U - 1 AND sale = 'SALE'", 2, "over 3 records, and between"),
        ("DELETE FROM journal WHERE sale = 'SALE'", 1, "there are 0"),
        (
            "UPDATE journal SET seq = 9999 WHERE seq = :U AND sale = 'SALE';
             UPDATE journal SET seq = :U WHERE seq = :U - 1 AND sale = 'SALE';
             UPDATE journal SET seq = :U - 1 WHERE seq = 9999 AND sale = 'SALE'",
            2,
            "not those",
        ),
        (
            "UPDATE journal SET seq = seq + 100000 WHERE seq >= :U AND sale = 'SALE';
             UPDATE journal SET seq = seq - 99999 WHERE seq >= 100000 AND sale = 'SALE';
             INSERT INTO journal (sale, seq, kind, body) SELECT sale, :U, kind, body FROM journal WHERE seq = :U - 1 AND sale = 'SALE'",
            2,
            "not those",
        ),
        (
            "UPDATE link SET hash = (SELECT hash FROM link WHERE number = 1 AND sale = 'SALE') WHERE number = 3 AND sale = 'SALE'",
            3,
            "not what was made",
        ),
        ("UPDATE link SET records = 2 WHERE number = 3 AND sale = 'SALE'", 3, "over 2 records, and between"),
        ("UPDATE link SET upto = upto + 1 WHERE number = 3 AND sale = 'SALE'", 3, "there are 4"),
        ("DELETE FROM link WHERE number = 3 AND sale = 'SALE'", 3, "it is missing; link 4 comes next"),
    ];

    async fn finds_out<J: Journal + Chain, F: Future<Output = J>>(
        place: &JournalPlace,
        open: impl Fn(String) -> F,
        alter: impl AsyncFn(String),
    ) {
        let log_of = async |sale: &str| {
            let journal = open(sale.to_owned()).await;
            let mut second = 0;
            for round in 0..4 {
                for number in 1..=3 {
                    journal.append(0, &[joined(round * 3 + number)]).await.unwrap();
                }
                let link = extend(&journal).await.unwrap();
                second = if round == 1 { link.upto } else { second };
            }
            (journal, second)
        };
        let of = async |sale: &str, head| {
            check_log(place, Some(&sale.parse().unwrap()), head)
                .await
                .unwrap()
                .remove(0)
        };
        for (n, (change, link, says)) in CHANGES.iter().enumerate() {
            let sale = format!("s{n}");
            let (_, second) = log_of(&sale).await;
            let before = of(&sale, None).await;
            assert_eq!(
                (before.records, before.link, before.not_linked, &before.fault),
                (12, 4, 0, &None)
            );
            alter(change.replace("SALE", &sale).replace(":U", &second.to_string())).await;
            let fault = of(&sale, None)
                .await
                .fault
                .unwrap_or_else(|| panic!("not found out: {change}"));
            assert!(
                fault.link == *link && fault.why.contains(says),
                "{change}: {fault:?}"
            );
        }

        // Cut, or written anew from some record on: only whoever remembers a link finds out.
        let (journal, second) = log_of("cut").await;
        let whole = of("cut", None).await;
        let head = Some(LogHead {
            link: whole.link,
            hash: whole.hash,
        });
        assert_eq!(of("cut", head).await.fault, None);
        let early = Some(LogHead {
            link: 1,
            hash: whole.hash,
        });
        assert!(
            of("cut", early)
                .await
                .fault
                .unwrap()
                .why
                .contains("not the one that was remembered")
        );
        alter(format!("DELETE FROM journal WHERE sale = 'cut' AND seq > {second}; DELETE FROM link WHERE sale = 'cut' AND number > 2"))
            .await;
        let cut = of("cut", None).await;
        assert_eq!((cut.records, cut.link, cut.fault), (6, 2, None));
        assert!(
            of("cut", head)
                .await
                .fault
                .unwrap()
                .why
                .contains("ends with link 2")
        );
        let lines = journal.lines(0, 10).await.unwrap();
        alter("DELETE FROM link WHERE sale = 'cut'".to_owned()).await;
        assert!(of("cut", head).await.fault.unwrap().why.contains("no link now"));
        let mut link = Link::genesis(&"cut".parse().unwrap());
        for line in &lines[..4] {
            link = link.next(std::slice::from_ref(line));
            assert!(journal.add_link(&link).await.unwrap());
        }
        let anew = of("cut", head).await;
        assert!(anew.fault.unwrap().why.contains("written anew"));
        let anew = of("cut", None).await;
        assert_eq!((anew.records, anew.not_linked, anew.fault), (4, 2, None));

        // What is asked for must be there.
        assert!(matches!(
            check_log(place, Some(&"nobody".parse().unwrap()), None).await,
            Err(LogError::NoSale(_))
        ));
        assert!(matches!(
            check_log(place, None, head).await,
            Err(LogError::WhoseHead)
        ));
        assert_eq!(
            check_log(place, None, None).await.unwrap().len(),
            CHANGES.len() + 1
        );
    }

    /// A journal of before the chain, and more than one link is over.
    async fn begins_late<J: Journal + Chain, F: Future<Output = J>>(
        place: &JournalPlace,
        open: impl Fn() -> F,
        alter: impl AsyncFn(String),
    ) {
        let old = open().await;
        let records: Vec<_> = (1..=2_500).map(joined).collect();
        old.append(0, &records).await.unwrap();
        alter("DROP TABLE link; DELETE FROM _sqlx_migrations WHERE version = 3".to_owned()).await;
        let before = check_log(place, None, None).await.unwrap().remove(0);
        assert_eq!((before.link, before.not_linked, before.fault), (0, 2_500, None));
        let again = open().await;
        assert_eq!(extend(&again).await.unwrap().number, 3);
        let after = check_log(place, None, None).await.unwrap().remove(0);
        assert_eq!(
            (after.link, after.records, after.not_linked, after.fault),
            (3, 2_500, 0, None)
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_finds_out_what_was_changed_in_a_file() {
        let dir = TempDir::new();
        for name in ["changed.db", "old.db"] {
            let (file, url) = (
                dir.path().join(name),
                format!("sqlite:{}", dir.path().join(name).display()),
            );
            let place = JournalPlace::File(file.clone());
            let open = |sale: String| {
                let file = file.clone();
                async move { SqliteJournal::open(&file, sale.parse().unwrap()).await.unwrap() }
            };
            let alter = async |sql: String| {
                let pool = SqlitePool::connect(&url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
                pool.close().await;
            };
            match name {
                "changed.db" => finds_out(&place, open, alter).await,
                _ => begins_late(&place, || open("a".to_owned()), alter).await,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_finds_out_what_was_changed_in_a_database() {
        let server = Postgres::start().await.unwrap();
        for name in ["changed", "old"] {
            let url = server.create_database(name).await.unwrap();
            let place = JournalPlace::Postgres { url: url.clone() };
            let open = |sale: String| {
                let url = url.clone();
                async move {
                    let journal = PgJournal::open(&url, sale.parse().unwrap(), 16).await.unwrap();
                    journal.raise_ceiling(0, 10_000).await.unwrap();
                    journal
                }
            };
            let alter = async |sql: String| {
                let options = url
                    .parse::<PgConnectOptions>()
                    .unwrap()
                    .options([("search_path", "stagedoor_queue")]);
                let pool = PgPool::connect_with(options).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
                pool.close().await;
            };
            match name {
                "changed" => finds_out(&place, open, alter).await,
                _ => begins_late(&place, || open("a".to_owned()), alter).await,
            }
        }
    }
}
