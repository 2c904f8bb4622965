//! A status stays small enough for the API, whatever objects and rules have to say.

use drover_api::work::v1::ManifestCondition;

/// All messages of a status together, in bytes, about: the API takes objects of 1.5 MiB.
const ALL: usize = 512 * 1024;
/// The longest and the shortest limit of one message, in bytes.
const ONE: (usize, usize) = (128, 4096);

/// Cuts messages that are too long for so many.
pub(super) fn messages(entries: &mut [ManifestCondition]) {
    let count: usize = entries.iter().map(|entry| entry.conditions.len()).sum();
    let limit = (ALL / count.max(1)).clamp(ONE.0, ONE.1);
    for condition in entries.iter_mut().flat_map(|entry| &mut entry.conditions) {
        if condition.message.len() > limit {
            let end = condition
                .message
                .floor_char_boundary(limit - '…'.len_utf8());
            condition.message.truncate(end);
            condition.message.push('…');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_api::conditions::{Status, condition};

    #[test]
    fn long_messages_of_many_manifests_are_cut() {
        let check = |count: usize, text: &str, expected: usize| {
            let now = drover_api::Time(jiff::Timestamp::UNIX_EPOCH);
            let entry = ManifestCondition {
                conditions: vec![condition("Applied", Status::False, "A", text, None, &now)],
                ..ManifestCondition::default()
            };
            let mut entries = vec![entry; count];
            messages(&mut entries);
            for entry in &entries {
                assert_eq!(entry.conditions[0].message.len(), expected);
            }
        };
        check(1, "short", 5);
        check(1, &"x".repeat(5000), 4096);
        check(1, &"ä".repeat(5000), 4095);
        check(1000, &"x".repeat(5000), 524);
        check(100_000, &"x".repeat(5000), 128);
    }
}
