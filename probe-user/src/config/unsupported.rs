//! What a configuration may say that this version does not act on: the one list of it.
//!
//! It would leave a service unwatched or an event unsent, so the configuration is refused. Nothing is ignored in silence.

use super::error::Findings;

/// Something that is right in a configuration and that this version does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// `output = "unix:…"`.
    UnixSocket,
    /// `output = "tcp:…"`.
    Tcp,
    /// `output = "journald"`.
    Journald,
}

impl Unsupported {
    /// What it is, and what can be written today.
    fn what_and_expected(self) -> (&'static str, &'static str) {
        const OUTPUT: &str = r#""-" or the path of a file"#;
        match self {
            Self::UnixSocket => ("events to a Unix socket are", OUTPUT),
            Self::Tcp => ("events over TCP are", OUTPUT),
            Self::Journald => ("events to journald are", OUTPUT),
        }
    }
}

impl Findings {
    /// Notes that the configuration asks for what this version does not do.
    pub(super) fn unsupported(&mut self, at: std::ops::Range<usize>, what: Unsupported) {
        let (subject, expected) = what.what_and_expected();
        self.error(at, format!("{subject} not supported by this version; expected {expected}"));
    }
}
