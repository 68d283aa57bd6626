//! One check and its outcome.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All that can be had.
    Full,
    /// Less than could be had on another host, or by another user.
    Degraded,
    /// This host has none, and hostprobe loses nothing by it.
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked; a hook by its tracepoint.
    pub name: String,
    pub state: State,
    /// What was found; if degraded, why.
    pub detail: String,
    /// What takes over, and what that cannot see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn full(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Full, detail)
    }

    pub(super) fn absent(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Absent, detail)
    }

    pub(super) fn degraded(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(name, State::Degraded, detail) }
    }

    /// Its lines, with the names in a column of this width.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let mark = match self.state {
            State::Full => "ok",
            State::Degraded => "LESS",
            State::Absent => "-",
        };
        let mut lines = vec![format!("  {mark:<4}  {:<width$}  {}", self.name, self.detail)];
        for (what, words) in [("instead", &self.fallback), ("to do", &self.remedy)] {
            if let Some(words) = words {
                lines.push(format!("        {:<width$}  {what}: {words}", ""));
            }
        }
        lines
    }

    pub(super) fn new(name: &str, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state, detail: detail.into(), fallback: None, remedy: None }
    }
}
