//! A reload of the configuration, and what it changed.

use serde::{Deserialize, Serialize};

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// The daemon already does what the file says.
    Unchanged,
    /// The file has changed, and the daemon does what it says from now on, except for the keys that need a restart.
    Applied(ReloadChanges),
    /// The reason. The daemon does what it did before.
    Refused(String),
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadChanges {
    pub added: Vec<String>,
    pub changed: Vec<ChangedService>,
    pub removed: Vec<String>,
    /// Keys of the daemon as a whole that took effect.
    pub keys: Vec<String>,
    /// Keys that differ from what the daemon does, and that only a restart of hostprobe applies.
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedService {
    pub name: String,
    /// Its keys that changed.
    pub keys: Vec<String>,
    /// It runs as it was started, and its next start uses the new command.
    pub at_next_start: bool,
}

impl ReloadChanges {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What changed, a sentence for each kind of change.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (what, names) in [("added", &self.added), ("removed", &self.removed)] {
            if !names.is_empty() {
                sentences.push(format!("{what}: {}", names.join(", ")));
            }
        }
        for service in &self.changed {
            let when = if service.at_next_start { "; the command changes at its next start" } else { "" };
            sentences.push(format!("changed: {} ({}){when}", service.name, service.keys.join(", ")));
        }
        if !self.keys.is_empty() {
            sentences.push(format!("changed: {}", self.keys.join(", ")));
        }
        if !self.needs_restart.is_empty() {
            sentences.push(format!("restart hostprobe to change: {}", self.needs_restart.join(", ")));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_it_changed() {
        let changes = ReloadChanges {
            added: vec!["cache".to_owned()],
            removed: vec!["old".to_owned(), "older".to_owned()],
            changed: vec![
                ChangedService {
                    name: "api".to_owned(),
                    keys: vec!["exec".to_owned(), "limits".to_owned()],
                    at_next_start: true,
                },
                ChangedService {
                    name: "db".to_owned(),
                    keys: vec!["probe".to_owned()],
                    at_next_start: false,
                },
            ],
            keys: vec!["alert".to_owned()],
            needs_restart: vec!["http.listen".to_owned()],
        };
        assert_eq!(
            changes.sentences(),
            [
                "added: cache",
                "removed: old, older",
                "changed: api (exec, limits); the command changes at its next start",
                "changed: db (probe)",
                "changed: alert",
                "restart hostprobe to change: http.listen",
            ]
        );
        assert!(ReloadChanges::default().is_empty());
    }
}
