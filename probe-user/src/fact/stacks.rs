//! What the threads of a service did that does not answer.

use serde::{Deserialize, Serialize};

/// The threads of a hung service, and what they wait for. For people: no decision depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangStacks {
    /// One sentence, such as `8 of 8 threads wait in connect() to 10.0.0.5:5432 (orders-db)`.
    pub summary: String,
    /// Threads with equal stacks, the most telling group first. The snapshot has all of them.
    pub groups: Vec<StackGroup>,
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

/// Threads that do the same at the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackGroup {
    /// How many threads there are.
    pub threads: u32,
    /// What they wait for, in words, such as `wait for a lock (futex)`.
    pub waits: String,
    /// The functions, the innermost first.
    pub frames: Vec<String>,
}

impl HangStacks {
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let groups = self.groups.iter_mut();
        let of_groups = groups.flat_map(|group| std::iter::once(&mut group.waits).chain(&mut group.frames));
        std::iter::once(&mut self.summary).chain(of_groups).chain(&mut self.missing)
    }
}
