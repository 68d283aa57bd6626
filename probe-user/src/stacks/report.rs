//! The stacks as lines of the snapshot.

use super::{summary, thread_stack::ThreadStack};

/// The most threads of a group that are named.
const NAMED_MAX: usize = 16;

/// All groups of threads with all their calls, a line each.
pub fn lines(summary: &str, threads: &[ThreadStack], missing: &[String]) -> Vec<String> {
    let mut lines = vec![summary.to_owned()];
    lines.extend(missing.iter().cloned());
    for group in summary::groups(threads) {
        let Some(first) = group.threads.first() else { continue };
        lines.push(String::new());
        let named = group.threads.iter().take(NAMED_MAX);
        let named: Vec<String> = named.map(|it| format!("{}/{} ({})", it.pid, it.tid, it.name)).collect();
        let more = group.threads.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let count = group.threads.len();
        let noun = if count == 1 { "thread" } else { "threads" };
        lines.push(format!("{count} {noun} {}: {}{more}", first.reason.words(count > 1), named.join(", ")));
        let channel = first.channel.as_deref().unwrap_or("-");
        lines.push(format!("    state {} wchan {channel}", first.state));
        lines.extend(first.kernel.iter().map(|call| format!("    kernel {call}")));
        lines.extend(first.frames.iter().map(|frame| format!("    {}", frame.words())));
        if !first.is_complete && !first.frames.is_empty() {
            lines.push("    (the stack could not be followed further)".to_owned());
        }
    }
    lines
}
