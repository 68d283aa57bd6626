//! The user's own programs that run at events.

use std::time::Duration;

use crate::fact::{HookCall, HookEvent, Verdict};

/// A `[[hook]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub on: Vec<HookEvent>,
    /// Of incidents with another verdict it knows nothing; empty: all.
    pub verdicts: Vec<Verdict>,
    /// Names of services, in which `*` stands for any characters; empty: all.
    pub services: Vec<String>,
    /// An absolute path and its arguments.
    pub command: Vec<String>,
    pub timeout: Duration,
}

impl Hook {
    /// Whether it runs at this event of a service.
    pub fn wants(&self, call: &HookCall, service: &str) -> bool {
        let verdict = call.incident.as_ref().map(|incident| incident.verdict);
        self.on.contains(&call.event)
            && (self.verdicts.is_empty() || verdict.is_some_and(|verdict| self.verdicts.contains(&verdict)))
            && (self.services.is_empty() || self.services.iter().any(|pattern| matches(pattern, service)))
    }
}

/// Whether a name is of this form. `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_name_stands_for_any_characters() {
        for (pattern, name) in [("db", "db"), ("db-*", "db-1"), ("*", "x"), ("a*b*c", "aXbYc"), ("a*", "a")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("db", "db-1"), ("db-*", "db"), ("a*b*c", "acb"), ("a*a", "a"), ("*b", "bc")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
