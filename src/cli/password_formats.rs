//! `stagedoor password-formats`

use crate::{kernel::SystemClock, shop};

/// One line for each format, as soon as it is measured, in a form that the guide can take over.
pub(super) fn run() {
    println!("| name | system and its default | one verification | verifications a second of a core |");
    println!("|---|---|---|---|");
    for cost in shop::password_format_costs(&SystemClock::new()) {
        let seconds = cost.check_time.as_secs_f64();
        println!(
            "| `{}` | {} | {:.0} ms | {:.1} |",
            cost.format,
            cost.system,
            seconds * 1e3,
            1.0 / seconds
        );
    }
}
