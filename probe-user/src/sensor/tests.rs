//! The order of what two sources report.

use super::*;
use crate::{
    fact::{OomScope, Source},
    sensor::record::{Cgroups, Exit, Oom, Status},
};

fn exit(pid: u32, status: u32) -> Record {
    Record::Exit(Exit {
        at_ns: 1,
        source: Source::Ebpf,
        start_ns: 0,
        pid,
        parent_pid: 1,
        namespaced_pid: None,
        lineage: None,
        uid: 0,
        status: Status(Some(status)),
        oom_victim: true,
        watched: true,
        child_of_init: false,
        namespace_init: false,
        max_rss_pages: 1,
        cgroups: Cgroups::default(),
        comm: "app".to_owned(),
        signal: None,
    })
}

fn oom(pid: u32) -> Record {
    Record::Oom(Oom {
        at_ns: 1,
        source: Source::Kmsg,
        start_ns: 0,
        pid: Some(pid),
        tid: pid,
        uid: 0,
        score_adj: 0,
        anon_pages: 0,
        file_pages: 0,
        shmem_pages: 0,
        swap_pages: 0,
        limit_pages: None,
        cgroups: Cgroups::default(),
        main_pid: None,
        comm: "app".to_owned(),
        trigger_pid: 0,
        trigger_comm: String::new(),
        scope: OomScope::Global,
        stack: Vec::new(),
    })
}

/// The pids of kills (negative) and of exits.
fn order(records: &[Record]) -> Vec<i64> {
    let of = |record: &Record| {
        if let Record::Exit(exit) = record {
            i64::from(exit.pid)
        } else if let Record::Oom(oom) = record {
            -i64::from(oom.pid.unwrap_or_default())
        } else {
            0
        }
    };
    records.iter().map(of).collect()
}

#[test]
fn a_kill_that_was_logged_after_the_log_was_read_comes_before_its_exit() {
    let mut out = vec![exit(1, 9), exit(2, 0x0100), exit(3, 9)];
    add_late_ooms(&mut out, 1, |late| late.push(oom(3)));
    assert_eq!(order(&out), [1, 2, -3, 3]);
}

#[test]
fn without_a_kill_the_log_is_not_read_again() {
    let mut out = vec![exit(1, 9), exit(2, 0x0100), exit(3, 15)];
    add_late_ooms(&mut out, 1, |_| panic!("the log is read"));
    assert_eq!(order(&out), [1, 2, 3]);
}
