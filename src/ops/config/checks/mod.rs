//! Checks of the settings' values and their relations. Each problem names the key and what would be right.

mod problems;
mod sales;
mod sections;
mod storage;

use crate::ops::config::{checks::problems::Problems, sections::Settings};

/// All problems of the settings; each is a key's full path and a sentence.
pub(super) fn find_problems(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    sections::server(settings, &mut problems);
    storage::stores(settings, &mut problems);
    storage::databases(settings, &mut problems);
    sections::keys_and_log(settings, &mut problems);
    sections::limits(settings, &mut problems);
    sections::proof_of_work(settings, &mut problems);
    sections::shop(settings, &mut problems);
    sections::shop_events(settings, &mut problems);
    sections::checkout(settings, &mut problems);
    sections::operators(settings, &mut problems);
    sales::sales(settings, &mut problems);
    problems.0
}
