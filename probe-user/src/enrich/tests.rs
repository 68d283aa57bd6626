//! Whose a process is that was born to a service, and is elsewhere now.

use super::{membership::lineage_of, *};
use crate::{
    fact::{Membership, OomScope, Source},
    host::fake::FakeHost,
};

const LOGIN: ServiceId = ServiceId(0);
const WEB: ServiceId = ServiceId(1);
const SERVICE: &str = "/system.slice/ssh.service";
const SESSION: &str = "/user.slice/session-3.scope";

/// A host with process 10 in [`SERVICE`], its child 20 in [`SESSION`], and that one's child 21 there.
fn host() -> FakeHost {
    let host = FakeHost::v2();
    for (pid, parent, path) in [(10, 1, SERVICE), (20, 10, SESSION), (21, 20, SESSION)] {
        host.process(pid, parent, "app", "/app");
        host.folder(&format!("sys/fs/cgroup{path}"));
        host.cgroup_file(pid, &format!("0::{path}\n"));
    }
    host
}

/// What is known of the processes of a host of which 10 is the main one of [`LOGIN`].
fn enricher(host: &FakeHost) -> Enricher {
    let mut enricher = Enricher::new(host.reader(), Members::default()).unwrap();
    enricher.set_main(LOGIN, host.reader().key_of(10));
    enricher
}

/// The service of a child of 20 that was born into the lineage of [`LOGIN`] and ends in this cgroup.
fn service_of_child(enricher: &Enricher, host: &FakeHost, pid: u32, path: &str) -> Option<ServiceId> {
    let key = host.reader().key_of(pid).unwrap();
    let id = host.cgroups().id(cgroup::Hierarchy::V2, path);
    let cgroups = record::Cgroups { v2: id, memory_v1: None };
    enricher.member(key, 20, &cgroups, Some(lineage_of(LOGIN))).map(|member| member.service)
}

#[test]
fn a_process_in_another_unit_belongs_to_the_nearer_service_or_to_none() {
    let host = host();
    let mut enricher = enricher(&host);
    assert_eq!(service_of_child(&enricher, &host, 21, SESSION), None);
    enricher.set_main(WEB, host.reader().key_of(20));
    assert_eq!(service_of_child(&enricher, &host, 21, SESSION), Some(WEB));
    assert_eq!(service_of_child(&enricher, &host, 21, SERVICE), Some(LOGIN), "it has not left");
}

#[test]
fn a_home_is_where_the_main_process_is_now() {
    let host = host();
    let enricher = enricher(&host);
    assert_eq!(service_of_child(&enricher, &host, 21, SESSION), None);
    host.cgroup_file(10, &format!("0::{SESSION}\n"));
    assert_eq!(service_of_child(&enricher, &host, 21, SESSION), Some(LOGIN));
}

#[test]
fn where_ids_name_no_unit_the_process_is_asked() {
    let host = FakeHost::hybrid();
    for (pid, parent, path) in [(10, 1, SERVICE), (20, 10, SERVICE), (21, 20, SESSION)] {
        host.process(pid, parent, "app", "/app");
        host.cgroup_file(pid, &format!("4:memory:/\n1:name=systemd:{path}\n0::/\n"));
    }
    let enricher = enricher(&host);
    let service = |pid| {
        let key = host.reader().key_of(pid).unwrap();
        let member = enricher.member(key, 10, &record::Cgroups::default(), Some(lineage_of(LOGIN)));
        member.map(|member| member.service)
    };
    assert_eq!((service(20), service(21)), (Some(LOGIN), None));
}

/// The record of the end of a process of [`LOGIN`] named `app`, with this parent, in this cgroup.
fn end_of(pid: u32, parent_pid: u32, start: Timestamp, cgroup: Option<u64>) -> record::Exit {
    record::Exit {
        at_ns: 9_000_000_000,
        source: Source::Ebpf,
        start_ns: start.as_nanos(),
        pid,
        parent_pid,
        namespaced_pid: None,
        lineage: Some(lineage_of(LOGIN)),
        uid: 33,
        status: record::Status(Some(9)),
        oom_victim: false,
        watched: false,
        child_of_init: false,
        namespace_init: false,
        max_rss_pages: 1,
        cgroups: record::Cgroups { v2: cgroup, memory_v1: None },
        comm: "app".to_owned(),
        signal: None,
    }
}

#[test]
fn a_parent_that_has_executed_nothing_is_read_once_for_all_its_children() {
    let host = host();
    let mut enricher = enricher(&host);
    // A fork of the main process, which forks workers.
    host.process_started_at(40, 10, "app", "/app", 50_000);
    host.cgroup_file(40, &format!("0::{SERVICE}\n"));
    let cgroup = host.cgroups().id(cgroup::Hierarchy::V2, SERVICE);
    let start = host.reader().key_of(40).unwrap().start;
    let mut executable_of_child = |pid| {
        let (exit, member) = enricher.exit(&end_of(pid, 40, start, cgroup)).unwrap();
        assert_eq!(member, Some(Membership { service: LOGIN, main: false }));
        exit.process.executable
    };
    assert_eq!(executable_of_child(41).as_deref(), Some("/app"));
    host.remove("proc/40");
    assert_eq!(executable_of_child(42).as_deref(), Some("/app"), "it is not read again");
}

#[test]
fn an_ended_fork_has_the_image_of_its_parent_without_reading_proc() {
    let host = host();
    let mut enricher = enricher(&host);
    let cgroup = host.cgroups().id(cgroup::Hierarchy::V2, SERVICE);
    // Born after the stock was taken; what is there now is another process.
    host.process_started_at(30, 20, "other", "/other", 50_000);
    let mut record = end_of(30, 20, host.reader().key_of(30).unwrap().start, cgroup);
    let (exit, member) = enricher.exit(&record).unwrap();
    assert_eq!(exit.process.executable.as_deref(), Some("/app"));
    assert_eq!((exit.process.name.as_str(), exit.process.user_id), ("app", 33));
    assert_eq!(
        exit.process.cgroup.map(|group| group.path).as_deref(),
        Some(SERVICE),
        "it has left its parent's"
    );
    assert_eq!(member, Some(Membership { service: LOGIN, main: false }));

    // A worker that changes its name stays in the cgroup of its main process.
    record.comm = "worker".to_owned();
    record.cgroups.v2 = host.cgroups().id(cgroup::Hierarchy::V2, SESSION);
    let (exit, _) = enricher.exit(&record).unwrap();
    assert_eq!(exit.process.executable.as_deref(), Some("/app"));
    // An orphan has a subreaper or init for its parent, whose image it never had.
    record.cgroups.v2 = cgroup;
    let (exit, _) = enricher.exit(&record).unwrap();
    assert_eq!((exit.process.executable, exit.process.command_line), (None, None));
    record.parent_pid = 1;
    record.comm = "systemd".to_owned();
    let (exit, _) = enricher.exit(&record).unwrap();
    assert_eq!(exit.process.executable.as_deref(), Some("/other"), "found in /proc");
}

#[test]
fn the_victim_of_an_oom_kill_in_the_log_is_its_service_s_though_it_is_gone() {
    let host = host();
    let mut enricher = enricher(&host);
    let main = host.reader().key_of(10).unwrap();
    let kill = record::Oom {
        at_ns: 9_000_000_000,
        source: Source::Kmsg,
        start_ns: main.start.as_nanos() + 1,
        pid: Some(40),
        main_pid: Some(10),
        tid: 40,
        uid: 33,
        score_adj: 0,
        anon_pages: 1,
        file_pages: 0,
        shmem_pages: 0,
        swap_pages: 0,
        limit_pages: None,
        cgroups: record::Cgroups::default(),
        comm: "worker".to_owned(),
        trigger_pid: 40,
        trigger_comm: "worker".to_owned(),
        scope: OomScope::Unknown,
        stack: Vec::new(),
    };
    let (found, member) = enricher.oom(&kill);
    assert_eq!((found.victim.key.pid, found.victim.name.as_str()), (40, "worker"));
    assert_eq!(member, Some(Membership { service: LOGIN, main: false }));
    // An older process than the main one is not its descendant: the number is used again.
    let (_, member) = enricher.oom(&record::Oom { start_ns: 1, ..kill });
    assert_eq!(member, None);
}
