//! Standard conditions: build, find, set and merge, with the time handed in.

use crate::{Condition, Time};

/// The longest message that the API takes, in characters.
pub const MAX_MESSAGE: usize = 32768;

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Status {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Reads the text on the wire; anything else is Unknown.
    pub fn read(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition that was judged at `now` on `generation`; a message beyond the API's limit is cut.
pub fn condition(
    type_: &str,
    status: Status,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: &Time,
) -> Condition {
    let mut message = message.into();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }
    Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: now.clone(),
    }
}

/// The condition of this type.
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is there with this status.
pub fn is(conditions: &[Condition], type_: &str, status: Status) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == status.as_str())
}

/// Whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    is(conditions, type_, Status::True)
}

/// Puts `new` in its place. The transition time of the old one stays when the status stays. Tells whether anything changed.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) -> bool {
    let Some(old) = conditions
        .iter_mut()
        .find(|condition| condition.type_ == new.type_)
    else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// Removes the condition of this type. Tells whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != type_);
    conditions.len() != before
}

/// `old` with every one of `new` set; the others stay.
pub fn merge(old: &[Condition], new: impl IntoIterator<Item = Condition>) -> Vec<Condition> {
    let mut merged = old.to_vec();
    for condition in new {
        set(&mut merged, condition);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("small seconds are valid"))
    }

    #[test]
    fn a_status_that_stays_keeps_its_time() {
        let mut conditions = vec![condition(
            "Applied",
            Status::True,
            "A",
            "one",
            Some(1),
            &at(1),
        )];
        assert!(set(
            &mut conditions,
            condition("Applied", Status::True, "A", "two", Some(2), &at(2))
        ));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert!(!set(
            &mut conditions,
            condition("Applied", Status::True, "A", "two", Some(2), &at(3))
        ));
        assert!(set(
            &mut conditions,
            condition("Applied", Status::False, "B", "two", Some(2), &at(4))
        ));
        assert_eq!(conditions[0].last_transition_time, at(4));
        assert!(is(&conditions, "Applied", Status::False) && !is_true(&conditions, "Applied"));
    }

    #[test]
    fn merging_keeps_the_others() {
        let old = [
            condition("A", Status::True, "R", "", None, &at(1)),
            condition("B", Status::True, "R", "", None, &at(1)),
        ];
        let merged = merge(
            &old,
            [
                condition("B", Status::Unknown, "S", "", None, &at(2)),
                condition("C", Status::False, "S", "", None, &at(2)),
            ],
        );
        let seen: Vec<_> = merged
            .iter()
            .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
            .collect();
        assert_eq!(seen, [("A", "True"), ("B", "Unknown"), ("C", "False")]);
    }

    #[test]
    fn a_message_is_cut_at_the_limit() {
        let long = condition(
            "A",
            Status::True,
            "R",
            "ä".repeat(MAX_MESSAGE + 5),
            None,
            &at(1),
        );
        assert_eq!(long.message.chars().count(), MAX_MESSAGE);
    }
}
