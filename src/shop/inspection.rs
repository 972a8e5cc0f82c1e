//! What is known of a shop before its customers come: for preflight.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    kernel::Clock,
    shop::{
        directory::{
            CustomerDirectory, DirectoryError, DirectoryOpenError, QueryFinding, Record, Search,
            SqlDirectory, Wanted,
        },
        passwords::{PasswordFormat, StoredHash, Unusable},
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
    let directory_config = super::directory::DirectoryConfig {
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
        Some(Ok(records)) => Some(Ok(examine(config, &directory, records, &*clock).await)),
    };
    Ok(ShopInspection {
        reachable: Ok(()),
        write_access,
        queries,
        sample,
    })
}

async fn examine(
    config: &Config,
    directory: &SqlDirectory,
    records: Vec<Record>,
    clock: &dyn Clock,
) -> CustomerSample {
    let allowed_unsafe: Vec<PasswordFormat> = PasswordFormat::unsafe_ones()
        .filter(|(_, name)| config.unsafe_password_formats.iter().any(|it| it == name))
        .map(|(format, _)| format)
        .collect();
    let mut sample = CustomerSample::default();
    let mut any_case_left = ANY_CASE_MAX;
    let mut examples: BTreeMap<String, StoredHash> = BTreeMap::new();
    for record in records {
        sample.customers += 1;
        let login = record.stored_login().map(str::to_owned);
        let obstacle = match record.into_customer() {
            Err(error) => Some(error.to_string()),
            Ok(customer) => {
                let parsed = StoredHash::parse(&customer.password_hash, &allowed_unsafe);
                let format = match &parsed {
                    Ok(hash) => hash.format().name(),
                    Err(unusable) => unusable.format(),
                }
                .to_owned();
                *sample.by_format.entry(format.clone()).or_default() += 1;
                match parsed {
                    Err(Unusable::NoPassword) => Some("the account has no password".to_owned()),
                    Err(_) => Some(format!("the format {format} is not verified")),
                    Ok(hash) => {
                        examples.insert(format, hash);
                        is_found(
                            config,
                            directory,
                            login.as_deref(),
                            &customer.key,
                            &mut any_case_left,
                        )
                        .await
                    }
                }
            }
        };
        if let Some(obstacle) = obstacle {
            *sample.obstacles.entry(obstacle).or_default() += 1;
        }
    }
    let most = examples
        .iter()
        .max_by_key(|(format, _)| sample.by_format.get(*format));
    sample.check_time = most.map(|(_, hash)| {
        let began = clock.monotonic();
        std::hint::black_box(hash.matches("not the password"));
        clock.monotonic().saturating_sub(began)
    });
    sample
}

/// Why a customer who types their login, as it is stored or in lower case, is not found; `None` when they
/// are.
async fn is_found(
    config: &Config,
    directory: &SqlDirectory,
    login: Option<&str>,
    key: &str,
    any_case_left: &mut u32,
) -> Option<String> {
    let Some(login) = login else {
        // The query does not return it, so it cannot be typed here.
        return None;
    };
    if login.trim().is_empty() {
        return Some("the account has no address".to_owned());
    }
    let typed: HashSet<Wanted> = [login.to_owned(), login.to_lowercase()]
        .iter()
        .map(|login| Wanted::login(login))
        .collect();
    let pause = Duration::from_secs(1) / config.queries_per_second_max.max(1);
    for wanted in typed {
        tokio::time::sleep(pause).await;
        let mut found = directory.find(&wanted, Search::Exact).await;
        if found == Ok(None) && directory.searches_any_case() {
            if *any_case_left == 0 {
                continue;
            }
            *any_case_left -= 1;
            found = directory.find(&wanted, Search::AnyCase).await;
        }
        match found {
            Ok(Some(customer)) if customer.key == key => {}
            Ok(Some(_)) | Err(DirectoryError::Unclear) => {
                return Some("another customer has the same address, perhaps in another case".to_owned());
            }
            Ok(None) => return Some("shop.customer_query does not find the stored address".to_owned()),
            Err(DirectoryError::Failed) => return Some("the query failed or took too long".to_owned()),
        }
    }
    None
}
