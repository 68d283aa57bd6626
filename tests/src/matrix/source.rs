//! The source that a row's daemon gets its records from.

use std::cell::Cell;

/// A source of kernel records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The eBPF hooks.
    #[default]
    Hooks,
    /// The fallbacks: the daemon attaches no hook.
    Fallback,
}

thread_local! {
    /// The source of the row that runs on this thread.
    static SOURCE: Cell<Source> = const { Cell::new(Source::Hooks) };
}

impl Source {
    /// The source of the row that runs on this thread.
    pub(super) fn of_row() -> Self {
        SOURCE.get()
    }

    /// Makes this the source of the row that runs on this thread.
    pub(super) fn set_for_row(self) {
        SOURCE.set(self);
    }

    /// The daemon's arguments that select it.
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Hooks => &[],
            Self::Fallback => &["--without-hook", "all"],
        }
    }
}
