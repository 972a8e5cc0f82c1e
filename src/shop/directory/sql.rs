//! Finds customers by configured SQL queries, over few read-only connections.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::mysql::MySqlDatabaseError;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    kernel::Clock,
    shop::directory::{
        database::{DatabaseKind, RECORDS_MAX, ShopDatabase},
        mysql::MySqlShop,
        port::{Customer, CustomerDirectory, DirectoryError, Search, Wanted},
        postgres::PostgresShop,
        query::{CustomerQuery, Placeholders, QueryError, QueryKind},
        record::{COLUMNS, LOGIN, Record, choose},
        sqlite::{ANY_CASE, SqliteShop},
    },
};

/// The time limit of what is looked at before the first query.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How the directory is configured.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryConfig {
    pub(crate) database_url: String,
    pub(crate) customer_query: String,
    /// Empty: there is none.
    pub(crate) customer_query_any_case: String,
    /// Empty: there is none.
    pub(crate) customer_by_id_query: String,
    /// Empty: there is none.
    pub(crate) customer_sample_query: String,
    /// Tables with which it is tried that nothing can be written.
    pub(crate) tables: Vec<String>,
    /// Go on where the account could write.
    pub(crate) allow_write_access: bool,
    pub(crate) connections_max: u32,
    pub(crate) query_timeout: Duration,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryOpenError {
    /// The URL is of no supported kind, or it cannot be read.
    #[error("shop.database_url: {0}")]
    Url(sqlx::Error),
    /// A query has the wrong parameters.
    #[error("{key}: {error}")]
    Query {
        /// The configuration key.
        key: &'static str,
        /// What is wrong.
        error: QueryError,
    },
    /// The account at the shop's database could change the shop's data.
    #[error(
        "the account of shop.database_url may change the shop's data ({}): give it SELECT alone, or set \
         shop.allow_write_access to go on all the same",
        .0.join(", ")
    )]
    Writable(Vec<String>),
}

/// A shop's database.
pub(crate) struct SqlDirectory {
    database: Box<dyn ShopDatabase>,
    exact: CustomerQuery,
    any_case: Option<CustomerQuery>,
    by_key: Option<CustomerQuery>,
    sample: Option<CustomerQuery>,
    config: DirectoryConfig,
    /// What the account could write although it should not; set once it is known, and empty unless it is
    /// allowed.
    write_access: OnceCell<Vec<String>>,
    inspecting: Mutex<()>,
    /// Whether rows must say whose they are: the collations of MySQL take different letters for the same.
    needs_login: bool,
}

impl SqlDirectory {
    /// Connects lazily, so that the service starts while the shop is down.
    ///
    /// # Errors
    /// [`DirectoryOpenError`], except [`DirectoryOpenError::Writable`].
    pub(crate) fn new(config: DirectoryConfig, clock: Arc<dyn Clock>) -> Result<Self, DirectoryOpenError> {
        let (database, placeholders) = open(&config, clock).map_err(DirectoryOpenError::Url)?;
        let kind = DatabaseKind::of(&config.database_url);
        let parse = |key, text: &str, kind| {
            CustomerQuery::parse(text, kind, placeholders)
                .map_err(|error| DirectoryOpenError::Query { key, error })
        };
        let optional = |key, text: &str, kind| match text {
            "" => Ok(None),
            text => parse(key, text, kind).map(Some),
        };
        let (any_case, by_key) = (any_case_query(&config), &config.customer_by_id_query);
        Ok(Self {
            exact: parse("shop.customer_query", &config.customer_query, QueryKind::ByLogin)?,
            any_case: optional("shop.customer_query_any_case", any_case, QueryKind::ByLogin)?,
            by_key: optional("shop.customer_by_id_query", by_key, QueryKind::ByKey)?,
            sample: optional(
                "shop.customer_sample_query",
                &config.customer_sample_query,
                QueryKind::Sample,
            )?,
            database,
            config,
            write_access: OnceCell::new(),
            inspecting: Mutex::new(()),
            needs_login: kind == Some(DatabaseKind::MySql),
        })
    }

    /// Looks at what the account may do and at the queries, and says what an operator should know. A database
    /// that does not respond is looked at before its first query instead.
    ///
    /// # Errors
    /// [`DirectoryOpenError::Writable`].
    pub(crate) async fn inspect(&self) -> Result<(), DirectoryOpenError> {
        match self.inspect_once().await {
            Ok(()) => Ok(()),
            Err(Inspection::Writable(privileges)) => Err(DirectoryOpenError::Writable(privileges)),
            Err(Inspection::Failed(reason)) => {
                tracing::warn!(
                    reason,
                    "the shop's database could not be checked; it will be before its first query"
                );
                Ok(())
            }
        }
    }

    /// Whether the database answered an inspection, and may be queried.
    pub(crate) fn is_inspected(&self) -> bool {
        self.write_access.initialized()
    }

    /// Before the first query. One caller inspects; the others do not wait for a shop that may be down.
    async fn inspect_first(&self) -> Result<(), DirectoryError> {
        if self.is_inspected() {
            return Ok(());
        }
        let Ok(_turn) = self.inspecting.try_lock() else {
            return Err(DirectoryError::Failed);
        };
        self.inspect_once().await.map_err(|inspection| {
            inspection.log();
            DirectoryError::Failed
        })
    }

    async fn inspect_once(&self) -> Result<(), Inspection> {
        self.write_access
            .get_or_try_init(|| async {
                tokio::time::timeout(INSPECTION_TIMEOUT, self.inspect_database())
                    .await
                    .unwrap_or_else(|_| Err(Inspection::Failed("no answer in time".to_owned())))
            })
            .await
            .map(|_| ())
    }

    /// A query that the shop's tables do not fit fails at each sign-in. The service starts all the same: who
    /// is signed in goes on buying.
    async fn inspect_database(&self) -> Result<Vec<String>, Inspection> {
        let failed = |error: sqlx::Error| Inspection::Failed(error.to_string());
        let writable = self.write_access().await.map_err(failed)?;
        if !writable.is_empty() && !self.config.allow_write_access {
            return Err(Inspection::Writable(writable));
        }
        warn_of_write_access(&writable);
        for finding in self.examine_queries().await {
            match finding {
                QueryFinding::Usable { .. } => {}
                QueryFinding::Scan { .. } => tracing::warn!("{finding}"),
                _ => tracing::error!("{finding}"),
            }
        }
        Ok(writable)
    }

    /// What is to be said of the configured queries.
    pub(crate) async fn examine_queries(&self) -> Vec<QueryFinding> {
        let mut findings = Vec::new();
        let queries = [
            ("shop.customer_query", Some(&self.exact), true),
            ("shop.customer_query_any_case", self.any_case.as_ref(), false),
            ("shop.customer_by_id_query", self.by_key.as_ref(), true),
        ];
        for (key, query, needs_index) in queries {
            if let Some(query) = query {
                findings.extend(self.examine_query(key, query, needs_index).await);
            }
        }
        findings
    }

    async fn examine_query(
        &self,
        key: &'static str,
        query: &CustomerQuery,
        needs_index: bool,
    ) -> Vec<QueryFinding> {
        let refused = |error: sqlx::Error| {
            vec![QueryFinding::Refused {
                key,
                error: error.to_string(),
            }]
        };
        let columns = match self.database.columns(query).await {
            Ok(columns) => columns,
            Err(error) => return refused(error),
        };
        let is_by_login = query.kind() == QueryKind::ByLogin;
        let login = (self.needs_login && is_by_login).then_some(LOGIN);
        let mut findings: Vec<QueryFinding> = COLUMNS
            .into_iter()
            .chain(login)
            .filter(|demanded| !columns.iter().any(|column| column == demanded))
            .map(|column| QueryFinding::MissingColumn { key, column })
            .collect();
        if needs_index {
            match self.database.scans(query).await {
                Ok(scans) => findings.extend(scans.into_iter().map(|scan| QueryFinding::Scan {
                    key,
                    table: scan.table,
                    rows: scan.rows,
                })),
                Err(error) => return refused(error),
            }
        }
        if findings.is_empty() {
            findings.push(QueryFinding::Usable { key });
        }
        findings
    }

    /// What the account could write although it should not.
    pub(crate) async fn write_access(&self) -> Result<Vec<String>, sqlx::Error> {
        let examined = self.database.write_access(&self.config.tables);
        tokio::time::timeout(INSPECTION_TIMEOUT, examined)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Some customers, as the configured query chooses them; `None` without one.
    pub(crate) async fn sample(&self, customers_max: u32) -> Option<Result<Vec<Record>, sqlx::Error>> {
        let query = self.sample.as_ref()?;
        Some(
            self.database
                .records(query, &query.example(), customers_max)
                .await,
        )
    }

    async fn find_customer(
        &self,
        wanted: &Wanted,
        search: Search,
    ) -> Result<Option<Customer>, DirectoryError> {
        let query = match (wanted, search) {
            (Wanted::Login(_), Search::Exact) => Some(&self.exact),
            (Wanted::Login(_), Search::AnyCase) => self.any_case.as_ref(),
            (Wanted::Key(_), _) => self.by_key.as_ref(),
        };
        let Some(query) = query else { return Ok(None) };
        let records = match self.database.records(query, wanted, RECORDS_MAX).await {
            Ok(records) => records,
            Err(error) if is_about_the_value(&error) => {
                tracing::warn!(%error, "the shop's database cannot compare what was asked for");
                return Ok(None);
            }
            Err(error) => {
                tracing::warn!(%error, "the shop's database failed");
                return Err(DirectoryError::Failed);
            }
        };
        choose(records, wanted, self.needs_login).map_err(|error| {
            tracing::warn!(%error, "the shop's data about a customer are not clear");
            DirectoryError::Unclear
        })
    }
}

/// What is to be said of a configured query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryFinding {
    /// It returns what it should, by an index where it needs one.
    Usable {
        /// The configuration key.
        key: &'static str,
    },
    /// The database does not run it.
    Refused {
        /// The configuration key.
        key: &'static str,
        /// The database's answer.
        error: String,
    },
    /// It does not return a column that it must.
    MissingColumn {
        /// The configuration key.
        key: &'static str,
        /// The column.
        column: &'static str,
    },
    /// It reads a large table as a whole.
    Scan {
        /// The configuration key.
        key: &'static str,
        /// The table.
        table: String,
        /// Its rows, as the database estimates them.
        rows: u64,
    },
}

impl fmt::Display for QueryFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable { key } => write!(f, "{key} returns what it should"),
            Self::Refused { key, error } => write!(f, "the shop's database refuses {key}: {error}"),
            Self::MissingColumn { key, column } => write!(f, "{key} does not return the column {column}"),
            Self::Scan { key, table, rows } => write!(
                f,
                "{key} reads all {rows} rows of {table} for each customer: it needs an index"
            ),
        }
    }
}

/// Why it is not known that nothing can be written.
enum Inspection {
    Writable(Vec<String>),
    Failed(String),
}

impl Inspection {
    fn log(&self) {
        match self {
            Self::Writable(privileges) => tracing::error!(
                privileges = privileges.join(", "),
                "the account of shop.database_url may change the shop's data, so it is not used"
            ),
            Self::Failed(reason) => tracing::warn!(reason, "the shop's database could not be checked"),
        }
    }
}

/// Whether the database works and refuses only the value: of a character that it does not have, or that is no
/// number. Such a value must not count as a failure of the shop, because callers choose it.
fn is_about_the_value(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // Collations that do not mix, and characters that cannot be converted.
        return [1267, 1300, 1366, 3854].contains(&error.number());
    }
    // Class 22 of SQLSTATE: data exceptions.
    error
        .code()
        .is_some_and(|code| code.len() == 5 && code.starts_with("22"))
}

fn warn_of_write_access(privileges: &[String]) {
    if privileges.is_empty() {
        return;
    }
    tracing::warn!(
        privileges = privileges.join(", "),
        "the account of shop.database_url may change the shop's data, which shop.allow_write_access permits"
    );
}

/// The default query is written for SQLite files.
fn any_case_query(config: &DirectoryConfig) -> &str {
    let text = config.customer_query_any_case.as_str();
    if text.contains(ANY_CASE) && DatabaseKind::of(&config.database_url) != Some(DatabaseKind::Sqlite) {
        tracing::info!("shop.customer_query_any_case is not used: only SQLite files compare by {ANY_CASE}");
        return "";
    }
    text
}

fn open(
    config: &DirectoryConfig,
    clock: Arc<dyn Clock>,
) -> Result<(Box<dyn ShopDatabase>, Placeholders), sqlx::Error> {
    let (url, connections_max) = (&config.database_url, config.connections_max);
    let timeout = config.query_timeout;
    Ok(match DatabaseKind::of(url) {
        Some(DatabaseKind::Sqlite) => (
            Box::new(SqliteShop::new(url, connections_max, timeout, clock)?),
            Placeholders::Counted,
        ),
        Some(DatabaseKind::Postgres) => (
            Box::new(PostgresShop::new(url, connections_max, timeout)?),
            Placeholders::Numbered,
        ),
        Some(DatabaseKind::MySql) => (
            Box::new(MySqlShop::new(url, connections_max, timeout)?),
            Placeholders::Counted,
        ),
        None => {
            let kinds = "must be sqlite:FILE, postgres://... or mysql://...";
            return Err(sqlx::Error::Configuration(kinds.into()));
        }
    })
}

#[async_trait]
impl CustomerDirectory for SqlDirectory {
    async fn find(&self, wanted: &Wanted, search: Search) -> Result<Option<Customer>, DirectoryError> {
        self.inspect_first().await?;
        let timeout = self.config.query_timeout;
        let found = tokio::time::timeout(timeout, self.find_customer(wanted, search)).await;
        found.unwrap_or_else(|_| {
            tracing::warn!(
                timeout_ms = timeout.as_millis(),
                "the shop's database did not respond in time"
            );
            Err(DirectoryError::Failed)
        })
    }

    fn searches_any_case(&self) -> bool {
        self.any_case.is_some()
    }

    fn finds_by_key(&self) -> bool {
        self.by_key.is_some()
    }

    fn remind(&self) {
        warn_of_write_access(self.write_access.get().map_or(&[], Vec::as_slice));
    }
}

#[cfg(test)]
mod tests;
