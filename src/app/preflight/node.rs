//! What can be checked at this machine alone: sales, keys, files, the gateway's kind.

use crate::{
    app::{build::check_sale_plans, created_files, descriptors, preflight::report::Report},
    kernel::{Clock, SystemClock},
    ops::config::{GatewayKind, Settings},
};

/// Below this a sale with its journal and ledger may fill the disk.
const DISK_FREE_MIN: u64 = 2 << 30;

pub(super) fn sales(settings: &Settings, report: &mut Report) {
    if settings.sales.is_empty() {
        report.failed("sales", "there is no sale", "declare one under [[sales]]");
    }
    for sale in &settings.sales {
        let (id, now) = (&sale.id, SystemClock::new().now());
        match check_sale_plans(sale) {
            Ok(seats) => report.ok(
                "plan and prices",
                format!("{id}: {seats} seats, each with a price"),
            ),
            Err(error) => report.failed(
                "plan and prices",
                format!("{id}: {error:#}"),
                "mend the plan or sales.performances.prices",
            ),
        }
        for reason in sale.reasons_not_to_begin(now) {
            report.failed("times", format!("{id}: {reason}"), "mend the times of the sale");
        }
    }
}

pub(super) fn keys(settings: &Settings, report: &mut Report) {
    let file = created_files::keys_file(settings);
    if settings.keys.master.is_empty() && settings.keys.master_file.as_os_str().is_empty() {
        report.warn(
            "keys",
            "there is no master key: the keys lie in the data directory unencrypted",
            "set STAGEDOOR__KEYS__MASTER, the same on every node, and keep a copy elsewhere",
        );
    } else {
        report.ok("keys", "a master key is set");
    }
    if let Err(error) = created_files::check(settings) {
        report.failed("files", format!("{error:#}"), "restore the backup");
    } else if created_files::is_recorded(&settings.data.dir) {
        report.ok(
            "files",
            format!("all that was created in {} is there", settings.data.dir.display()),
        );
    } else {
        report.warn(
            "files",
            format!("{} will be created at the first start", file.display()),
            "back it up then: without it no ticket that was sold is genuine",
        );
    }
}

pub(super) fn descriptors(settings: &Settings, report: &mut Report) {
    let wanted = settings.server.connections_max;
    match descriptors::connections_max(settings) {
        Ok(allowed) if allowed >= wanted => {
            report.ok("open files", format!("{allowed} connections fit into the limit"));
        }
        Ok(allowed) => report.warn(
            "open files",
            format!("the limit allows {allowed} connections, server.connections_max is {wanted}"),
            "raise the limit (ulimit -n, or LimitNOFILE of the systemd unit)",
        ),
        Err(error) => report.failed("open files", error.to_string(), "raise the limit (ulimit -n)"),
    }
}

pub(super) fn disk(settings: &Settings, report: &mut Report) {
    let dir = &settings.data.dir;
    let existing = dir.ancestors().find(|it| it.exists()).unwrap_or(dir);
    let existing = if existing.as_os_str().is_empty() {
        ".".as_ref()
    } else {
        existing
    };
    match rustix::fs::statvfs(existing) {
        Ok(volume) => {
            let free = volume.f_bavail.saturating_mul(volume.f_frsize);
            let finding = format!("{:.1} GiB are free for {}", gib(free), dir.display());
            if free >= DISK_FREE_MIN {
                report.ok("disk", finding);
            } else {
                report.warn(
                    "disk",
                    finding,
                    "free at least 2 GiB: journal and ledger grow during a sale",
                );
            }
        }
        Err(error) => report.failed(
            "disk",
            format!("{}: {error}", existing.display()),
            "make data.dir a folder that this account can write",
        ),
    }
}

fn gib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 30)
}

pub(super) fn gateway(settings: &Settings, report: &mut Report) {
    match settings.gateway.kind {
        GatewayKind::Sandbox => report.warn(
            "payment gateway",
            "the sandbox moves no money",
            "use it for rehearsals only",
        ),
    }
}
