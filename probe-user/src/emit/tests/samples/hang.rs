//! What the threads of a service that hangs wait for.

use crate::fact::{HangStacks, StackGroup};

pub(crate) fn stacks() -> HangStacks {
    let group = StackGroup {
        threads: 4,
        waits: "wait for a lock (futex)".to_owned(),
        frames: vec![
            "pthread_mutex_lock() (libc.so.6+0x8b7f1)".to_owned(),
            "transfer() (api+0x1180)".to_owned(),
        ],
    };
    HangStacks {
        summary: "4 of 5 threads wait for a lock (futex) in pthread_mutex_lock, called by transfer()"
            .to_owned(),
        groups: vec![group],
        missing: vec!["process 7: thread 9 traces it, so its threads are not stopped".to_owned()],
    }
}
