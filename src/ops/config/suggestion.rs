//! Names the nearest known key when a key is unknown.

/// Appends a suggestion to serde's message about an unknown field, which lists the known ones; other messages
/// stay as they are.
pub(super) fn with_nearest_key(message: &str) -> String {
    let nearest = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'))
        .and_then(|(unknown, rest)| {
            let known = rest.split('`').skip(1).step_by(2);
            known.min_by_key(|known| edit_distance(unknown, known))
        });
    match nearest {
        Some(known) => format!("unknown key, did you mean `{known}`? ({message})"),
        None => message.to_owned(),
    }
}

/// Levenshtein distance in bytes, with one row of the dynamic programming table.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte_a) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, byte_b) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(byte_a != byte_b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_levenshteins() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("max_fans", "max_fan", 1),
        ] {
            assert_eq!(
                (edit_distance(a, b), edit_distance(b, a)),
                (distance, distance),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        assert_eq!(with_nearest_key("invalid type"), "invalid type");
    }
}
