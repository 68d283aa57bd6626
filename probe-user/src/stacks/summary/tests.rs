//! Sentences about made-up threads; `tests/hang_stacks.rs` has real ones.

use super::*;
use crate::stacks::{name::Function, reason::RemoteEnd};

fn frame(function: &str, file: &str, address: u64) -> StackFrame {
    let function = (!function.is_empty()).then(|| Function { name: function.to_owned(), line: None });
    StackFrame { function, file: file.to_owned(), address }
}

fn thread(tid: u32, reason: Reason, frames: &[StackFrame]) -> ThreadStack {
    ThreadStack {
        pid: 10,
        tid,
        name: "app".to_owned(),
        state: 'S',
        reason,
        frames: frames.to_vec(),
        kernel: Vec::new(),
        channel: None,
        is_complete: true,
    }
}

fn locked(tid: u32, owner: Option<u32>) -> ThreadStack {
    let frames = [
        frame("", "libc.so.6", 0x85f1),
        frame("pthread_mutex_lock", "libc.so.6", 0x8b71),
        frame("transfer", "app", 0x1180),
    ];
    thread(tid, Reason::Lock { owner }, &frames)
}

#[test]
fn threads_are_counted_by_what_they_wait_for_and_where() {
    let mut threads: Vec<ThreadStack> = (1..5).map(|tid| locked(tid, Some(9))).collect();
    threads.push(thread(9, Reason::Sleep("nanosleep"), &[]));
    let found = summarize(&threads, 5, Vec::new());
    let expected =
        "4 of 5 threads wait for a lock (futex) of thread 9 in pthread_mutex_lock, called by transfer()";
    assert_eq!(found.summary, expected);
    assert_eq!(found.groups.iter().map(|group| group.threads).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(found.groups[0].frames[2], "transfer() (app+0x1180)");
    // Each waits for the other.
    let found = summarize(&[locked(1, Some(2)), locked(2, Some(1))], 2, Vec::new());
    assert_eq!(
        found.summary,
        "2 of 2 threads wait for a lock (futex) in pthread_mutex_lock, called by transfer()"
    );
}

#[test]
fn what_is_idle_is_told_only_if_nothing_else_is() {
    let idle = |tid| thread(tid, Reason::Idle("epoll_wait"), &[]);
    let peer = RemoteEnd { address: "10.0.0.5:5432".parse().unwrap(), service: Some("orders-db".to_owned()) };
    let asks = thread(3, Reason::Answer("recvfrom", peer), &[]);
    let found = summarize(&[idle(1), idle(2), asks], 3, Vec::new());
    assert_eq!(found.summary, "1 of 3 threads waits in recvfrom() for data from 10.0.0.5:5432 (orders-db)");
    let found = summarize(&[idle(1)], 1, Vec::new());
    assert_eq!(found.summary, "1 of 1 thread waits for work in epoll_wait()");
}

#[test]
fn what_was_not_looked_at_is_counted() {
    let spins = thread(1, Reason::Runs, &[frame("spin(int)", "app", 0x1180)]);
    let found = summarize(&[spins], 200, vec!["why".to_owned()]);
    assert_eq!(found.summary, "1 of 200 threads runs in spin(int) (app+0x1180); 199 were not looked at");
    assert_eq!(found.missing, ["why"]);
    assert_eq!(summarize(&[], 7, Vec::new()).summary, "none of 7 threads could be looked at");
}

#[test]
fn the_lists_of_an_incident_are_bounded() {
    let frames: Vec<StackFrame> = (0..100).map(|address| frame("", "app", address)).collect();
    let threads: Vec<ThreadStack> =
        (0..60).map(|tid| thread(tid, Reason::Runs, &frames[tid as usize..])).collect();
    let missing = (0..50).map(|number| number.to_string()).collect();
    let found = summarize(&threads, 60, missing);
    assert_eq!((found.groups.len(), found.missing.len()), (GROUPS_MAX, MISSING_MAX));
    assert!(found.groups.iter().all(|group| group.frames.len() == FRAMES_MAX));
}
