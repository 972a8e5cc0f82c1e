//! The shop: its database, and who of its customers can sign in.

use std::sync::Arc;

use crate::{
    app::{
        build::check_sale_plans,
        preflight::{report::Report, sign_in},
    },
    kernel::SystemClock,
    ops::config::{SaleSettings, Settings, SignIn},
    shop::{CustomerSample, QueryFinding, ShopInspection, inspect_shop},
};

const DATABASE: &str = "shop database";
const CUSTOMERS: &str = "shop customers";
const CAPACITY: &str = "sign-in capacity";

pub(super) async fn check(settings: &Settings, report: &mut Report) {
    if settings.sales.iter().all(|sale| sale.sign_in == SignIn::None) {
        return;
    }
    sign_in::check(settings, report).await;
    if !settings.shop.password_sign_in {
        report.ok(DATABASE, "it is not used (shop.password_sign_in)");
        return;
    }
    let inspection = match inspect_shop(&settings.shop(), Arc::new(SystemClock::new())).await {
        Ok(inspection) => inspection,
        Err(error) => {
            report.failed(DATABASE, error.to_string(), "mend the section [shop]");
            return;
        }
    };
    database(&inspection, report);
    match &inspection.sample {
        Some(Ok(sample)) => {
            customers(sample, report);
            capacity(settings, sample, report);
        }
        Some(Err(error)) => report.failed(
            CUSTOMERS,
            format!("the sample could not be read: {error}"),
            "mend shop.customer_sample_query",
        ),
        None => report.warn(
            CUSTOMERS,
            "no sample was taken",
            "set shop.customer_sample_query, to see how many customers can sign in",
        ),
    }
}

fn database(inspection: &ShopInspection, report: &mut Report) {
    if let Err(error) = &inspection.reachable {
        report.failed(
            DATABASE,
            error,
            "check shop.database_url, shop.tables and the server's access list",
        );
        return;
    }
    if inspection.write_access.is_empty() {
        report.ok(DATABASE, "it answers, and nothing can be written there");
    } else {
        let finding = format!(
            "the account may change the shop's data: {}",
            inspection.write_access.join(", ")
        );
        report.failed(
            DATABASE,
            finding,
            "grant SELECT alone; config/shops has the statements",
        );
    }
    for finding in &inspection.queries {
        match finding {
            QueryFinding::Scan { .. } => report.warn(DATABASE, finding.to_string(), "add an index"),
            QueryFinding::Usable { .. } => report.ok(DATABASE, finding.to_string()),
            _ => report.failed(DATABASE, finding.to_string(), "mend the query"),
        }
    }
}

fn customers(sample: &CustomerSample, report: &mut Report) {
    let formats: Vec<String> = sample
        .by_format
        .iter()
        .map(|(format, count)| format!("{count} {format}"))
        .collect();
    let summary = format!(
        "of {} customers {} can sign in by password ({})",
        sample.customers,
        sample.can_sign_in(),
        formats.join(", ")
    );
    if sample.customers == 0 {
        report.warn(
            CUSTOMERS,
            "the sample is empty",
            "check shop.customer_sample_query",
        );
        return;
    }
    if sample.can_sign_in() == sample.customers {
        report.ok(CUSTOMERS, summary);
        return;
    }
    report.warn(
        CUSTOMERS,
        summary,
        "the others need shop.sign_in_url, a hand-off, or shop.unsafe_password_formats",
    );
    for (why, count) in &sample.obstacles {
        report.warn(
            CUSTOMERS,
            format!("{count} cannot: {why}"),
            "see the guide's chapter on the shop",
        );
    }
}

/// What the password threads can do, beside the crowd that the sale expects: at least one customer for each
/// seat.
fn capacity(settings: &Settings, sample: &CustomerSample, report: &mut Report) {
    let Some(check_time) = sample.check_time.filter(|time| !time.is_zero()) else {
        return;
    };
    let limits = settings.shop().password_limits;
    if !limits.can_serve(check_time) {
        report.failed(
            CAPACITY,
            format!(
                "verifying a password takes {check_time:.1?}, longer than four fifths of \
                 server.request_timeout_ms: no sign-in is answered in time"
            ),
            "raise server.request_timeout_ms, or set shop.password_sign_in = false",
        );
        return;
    }
    let per_second = limits.checks_per_second(check_time);
    report.ok(
        CAPACITY,
        format!(
            "{} password threads check {per_second:.1} passwords a second ({check_time:.1?} each); \
             {} sign-ins may wait, and shop.password_queue_max is {}",
            limits.threads,
            limits.waiting(check_time),
            limits.queue_max
        ),
    );
    for sale in settings
        .sales
        .iter()
        .filter(|sale| sale.sign_in == SignIn::Customer)
    {
        before_opening(sale, per_second, report);
    }
}

fn before_opening(sale: &SaleSettings, per_second: f64, report: &mut Report) {
    // A plan that cannot be used has a line of its own.
    let Ok(seats) = check_sale_plans(sale) else {
        return;
    };
    let time = sale.on_sale_starts_at.since(sale.prequeue_starts_at);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown to an operator"
    )]
    let customers = (per_second * time.as_secs_f64()) as usize;
    let finding = format!(
        "{}: one node signs {customers} customers in between the start of the prequeue and of the sale, \
         which has {seats} seats",
        sale.id
    );
    if customers >= seats {
        report.ok(CAPACITY, finding);
    } else {
        report.warn(
            CAPACITY,
            finding,
            "begin the prequeue earlier, add nodes or shop.password_threads, or let customers sign in at the \
             shop (shop.handoff, shop.oidc)",
        );
    }
}
