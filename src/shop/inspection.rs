//! What is known of a shop before its customers come: for preflight.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    kernel::Clock,
    shop::{
        directory::{
            CustomerDirectory, DirectoryConfig, DirectoryError, DirectoryOpenError, QueryFinding, Record,
            Search, SqlDirectory, Wanted,
        },
        passwords::{HashSample, PasswordFormat, StoredHash, Unusable},
        service::directory_config,
        types::Config,
    },
};

/// As many customers tell what formats there are.
const SAMPLE_MAX: u32 = 1_000;
/// Each of these searches may read all customers.
const ANY_CASE_MAX: u32 = 20;

/// What is known of a shop's database.
#[derive(Debug)]
pub struct ShopInspection {
    /// Whether it answers; else why not.
    pub reachable: Result<(), String>,
    /// What the account could write although it should not.
    pub write_access: Vec<String>,
    /// What is to be said of the configured queries.
    pub queries: Vec<QueryFinding>,
    /// Some customers; `None` without a query for them, an error if it failed.
    pub sample: Option<Result<CustomerSample, String>>,
}

/// What some customers say of all.
#[derive(Debug, Default)]
pub struct CustomerSample {
    /// How many they are.
    pub customers: usize,
    /// How many of them cannot sign in by password, by the reason.
    pub obstacles: BTreeMap<String, usize>,
    /// How many have a password of each format, by its name in logs and metrics.
    pub by_format: BTreeMap<String, usize>,
    /// How long one verification of the most frequent format takes on one core of this machine.
    pub check_time: Option<Duration>,
}

impl CustomerSample {
    /// How many can sign in by password.
    #[must_use]
    pub fn can_sign_in(&self) -> usize {
        self.customers - self.obstacles.values().sum::<usize>()
    }
}

/// Looks at a shop's database, within its budget of queries.
///
/// # Errors
/// [`DirectoryOpenError`]: the configuration cannot be used.
pub async fn inspect_shop(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<ShopInspection, DirectoryOpenError> {
    let directory_config = DirectoryConfig {
        // It is reported.
        allow_write_access: true,
        ..directory_config(config)
    };
    let directory = SqlDirectory::new(directory_config, Arc::clone(&clock))?;
    let write_access = match directory.write_access().await {
        Ok(write_access) => write_access,
        Err(error) => {
            return Ok(ShopInspection {
                reachable: Err(error.to_string()),
                write_access: Vec::new(),
                queries: Vec::new(),
                sample: None,
            });
        }
    };
    let queries = directory.examine_queries().await;
    let sample = match directory.sample(SAMPLE_MAX).await {
        None => None,
        Some(Err(error)) => Some(Err(error.to_string())),
        Some(Ok(records)) => {
            let mut examination = Examination::new(config, &directory);
            for record in records {
                examination.add(record).await;
            }
            Some(Ok(examination.conclude(&*clock)))
        }
    };
    Ok(ShopInspection {
        reachable: Ok(()),
        write_access,
        queries,
        sample,
    })
}

/// Looks at the customers of a sample one by one.
struct Examination<'e> {
    directory: &'e SqlDirectory,
    allowed_unsafe: Vec<PasswordFormat>,
    /// Between two queries.
    pause: Duration,
    any_case_left: u32,
    hashes: HashSample,
    sample: CustomerSample,
}

impl<'e> Examination<'e> {
    fn new(config: &Config, directory: &'e SqlDirectory) -> Self {
        Self {
            directory,
            allowed_unsafe: PasswordFormat::unsafe_named(&config.unsafe_password_formats),
            pause: Duration::from_secs(1) / config.queries_per_second_max.max(1),
            any_case_left: ANY_CASE_MAX,
            hashes: HashSample::default(),
            sample: CustomerSample::default(),
        }
    }

    async fn add(&mut self, record: Record) {
        self.sample.customers += 1;
        if let Some(obstacle) = self.obstacle(record).await {
            *self.sample.obstacles.entry(obstacle).or_default() += 1;
        }
    }

    /// Why a customer cannot sign in by password; `None` when they can.
    async fn obstacle(&mut self, record: Record) -> Option<String> {
        let login = record.stored_login().map(str::to_owned);
        let customer = match record.into_customer() {
            Ok(customer) => customer,
            Err(error) => return Some(error.to_string()),
        };
        let parsed = StoredHash::parse(&customer.password_hash, &self.allowed_unsafe);
        let format = match &parsed {
            Ok(hash) => hash.format().name(),
            Err(unusable) => unusable.format(),
        }
        .to_owned();
        *self.sample.by_format.entry(format.clone()).or_default() += 1;
        match parsed {
            Ok(hash) => self.hashes.add(hash),
            Err(Unusable::NoPassword) => return Some("the account has no password".to_owned()),
            Err(_) => return Some(format!("the format {format} is not verified")),
        }
        // A query that does not return the login cannot be asked for it.
        self.not_found(&login?, &customer.key).await
    }

    /// Why a customer who types their login, as it is stored or in lower case, is not found; `None` when they
    /// are.
    async fn not_found(&mut self, login: &str, key: &str) -> Option<String> {
        if login.trim().is_empty() {
            return Some("the account has no address".to_owned());
        }
        let mut typed = vec![Wanted::login(login), Wanted::login(&login.to_lowercase())];
        typed.dedup();
        for wanted in typed {
            tokio::time::sleep(self.pause).await;
            let mut found = self.directory.find(&wanted, Search::Exact).await;
            if found == Ok(None) && self.directory.searches_any_case() {
                if self.any_case_left == 0 {
                    continue;
                }
                self.any_case_left -= 1;
                found = self.directory.find(&wanted, Search::AnyCase).await;
            }
            let why = match found {
                Ok(Some(customer)) if customer.key == key => continue,
                Ok(Some(_)) | Err(DirectoryError::Unclear) => {
                    "another customer has the same address, perhaps in another case"
                }
                Ok(None) => "shop.customer_query does not find the stored address",
                Err(DirectoryError::Failed) => "the query failed or took too long",
            };
            return Some(why.to_owned());
        }
        None
    }

    fn conclude(mut self, clock: &dyn Clock) -> CustomerSample {
        self.sample.check_time = self.hashes.measure(clock).map(|measured| measured.check_time);
        self.sample
    }
}
