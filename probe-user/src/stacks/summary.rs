//! All threads in one sentence, and threads with equal stacks as one.

use super::{
    reason::Reason,
    thread_stack::{StackFrame, ThreadStack},
};
use crate::fact::{HangStacks, StackGroup};

/// The groups that an incident has, and their calls. The snapshot has all of them.
const GROUPS_MAX: usize = 8;
const FRAMES_MAX: usize = 16;
const MISSING_MAX: usize = 8;

/// The classes of threads in the sentence.
const CLASSES_MAX: usize = 2;

/// Threads with one reason and one stack.
#[derive(Debug)]
pub struct Group<'t> {
    pub threads: Vec<&'t ThreadStack>,
}

/// Threads that the sentence counts together.
struct Class<'t> {
    first: &'t ThreadStack,
    reason: Reason,
    threads: usize,
}

/// What the threads wait for. `all` is their number with those that were not looked at.
pub fn summarize(threads: &[ThreadStack], all: usize, missing: Vec<String>) -> HangStacks {
    let groups = groups(threads);
    HangStacks {
        summary: sentence(threads, all),
        groups: groups.iter().take(GROUPS_MAX).map(Group::published).collect(),
        missing: missing.into_iter().take(MISSING_MAX).collect(),
    }
}

/// Threads by what they do, those that tell most first, and then the largest.
pub fn groups(threads: &[ThreadStack]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for thread in threads {
        let same = |group: &&mut Group<'_>| {
            group.threads.first().is_some_and(|it| it.reason == thread.reason && it.frames == thread.frames)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.threads.push(thread),
            None => groups.push(Group { threads: vec![thread] }),
        }
    }
    let idle = |group: &Group<'_>| group.threads.first().is_some_and(|it| it.reason.is_idle());
    groups.sort_by_key(|group| (idle(group), std::cmp::Reverse(group.threads.len())));
    groups
}

impl Group<'_> {
    fn published(&self) -> StackGroup {
        let Some(first) = self.threads.first() else { return StackGroup::default() };
        let threads = u32::try_from(self.threads.len()).unwrap_or(u32::MAX);
        StackGroup {
            threads,
            waits: first.reason.words(threads > 1),
            frames: first.frames.iter().take(FRAMES_MAX).map(StackFrame::words).collect(),
        }
    }
}

fn sentence(threads: &[ThreadStack], all: usize) -> String {
    let noun = if all == 1 { "thread" } else { "threads" };
    let classes = classes(threads);
    let Some(first) = classes.first() else { return format!("none of {all} {noun} could be looked at") };
    // What is idle says nothing beside what is not.
    let telling = |it: &&Class<'_>| !it.reason.is_idle() || first.reason.is_idle();
    let mut parts = Vec::new();
    for class in classes.iter().filter(telling).take(CLASSES_MAX) {
        let count = if parts.is_empty() {
            format!("{} of {all} {noun} ", class.threads)
        } else {
            format!("{} ", class.threads)
        };
        parts.push(format!("{count}{}{}", class.reason.words(class.threads > 1), place(class)));
    }
    if threads.len() < all {
        parts.push(format!("{} were not looked at", all - threads.len()));
    }
    parts.join("; ")
}

fn classes(threads: &[ThreadStack]) -> Vec<Class<'_>> {
    let mut classes: Vec<Class<'_>> = Vec::new();
    for thread in threads {
        let reason = of_any_owner(&thread.reason);
        let same = |it: &&mut Class<'_>| of_any_owner(&it.reason) == reason && place(it) == place_of(thread);
        match classes.iter_mut().find(same) {
            Some(class) => {
                class.threads += 1;
                if class.reason != thread.reason {
                    class.reason = reason;
                }
            }
            None => classes.push(Class { first: thread, reason: thread.reason.clone(), threads: 1 }),
        }
    }
    classes.sort_by_key(|class| (class.reason.is_idle(), std::cmp::Reverse(class.threads)));
    classes
}

fn of_any_owner(reason: &Reason) -> Reason {
    if matches!(reason, Reason::Lock { .. }) { Reason::Lock { owner: None } } else { reason.clone() }
}

/// Where in the program they wait, where the system call says too little.
fn place(class: &Class<'_>) -> String {
    place_of(class.first)
}

fn place_of(thread: &ThreadStack) -> String {
    match thread.reason {
        Reason::Runs => running(&thread.frames),
        Reason::Lock { .. } | Reason::Wakeup | Reason::ThreadEnd(_) => called(&thread.frames),
        Reason::Stopped(_)
        | Reason::Connect(..)
        | Reason::Answer(..)
        | Reason::Room(..)
        | Reason::Descriptor(..)
        | Reason::Idle(_)
        | Reason::Sleep(_)
        | Reason::Child(_)
        | Reason::FileLock(..)
        | Reason::Disk(_)
        | Reason::Kernel(_)
        | Reason::Call(_)
        | Reason::Unknown => String::new(),
    }
}

fn running(frames: &[StackFrame]) -> String {
    let Some(innermost) = frames.first() else { return String::new() };
    match innermost.call() {
        Some(call) => format!(" in {call} ({})", innermost.place()),
        None => format!(" in {}", innermost.place()),
    }
}

/// The function of the runtime that they wait in, and the first function of the program.
fn called(frames: &[StackFrame]) -> String {
    let own = frames.iter().position(|frame| !frame.is_of_runtime());
    let runtime = &frames[..own.unwrap_or(frames.len())];
    let waits = runtime.iter().rev().find_map(|frame| frame.function.as_ref());
    let waits = waits.map(|function| format!(" in {}", public_name(&function.name))).unwrap_or_default();
    let caller = own.and_then(|own| frames.get(own));
    let caller = caller.map(|frame| frame.call().unwrap_or_else(|| frame.place()));
    let caller = caller.map(|caller| format!(", called by {caller}")).unwrap_or_default();
    format!("{waits}{caller}")
}

/// The C library has several names for one function, of which symbols for debugging show internal ones.
fn public_name(name: &str) -> &str {
    name.trim_start_matches("__GI_").trim_start_matches('_')
}

#[cfg(test)]
mod tests;
