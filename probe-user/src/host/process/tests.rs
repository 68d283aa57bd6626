use super::*;
use crate::host::fake::FakeHost;

#[test]
fn a_line_that_ends_early_is_no_status() {
    let host = FakeHost::hybrid();
    host.process(42, 7, "java", "/usr/bin/java");
    assert!(host.reader().stat(42).is_some());
    for line in [
        "42 (java)",
        "42 (java) ",
        "(java) S 1",
        "42 )java( S 1",
        "42 (java)S",
        "",
        "(",
        "\u{a0}(x) S",
        "42 (\u{a0})\u{a0}",
    ] {
        host.write("proc/42/stat", line.as_bytes());
        assert!(host.reader().stat(42).is_none(), "{line:?}");
    }
}

#[test]
fn a_pid_that_is_listed_below_itself_is_read_once() {
    let host = FakeHost::v2();
    host.process(10, 1, "app", "/app");
    host.process(11, 10, "app", "/app");
    host.write("proc/10/task/10/children", b"11 10");
    host.write("proc/11/task/11/children", b"10 11 11");
    let reader = host.reader();
    assert_eq!(reader.listed_subtree(10), Some(vec![10, 11]));
    let descendants = reader.descendants(10, |_| false);
    assert_eq!(descendants, [reader.key_of(11).unwrap()]);
}

#[test]
fn a_process_lives_until_the_kernel_has_reported_its_end() {
    let host = FakeHost::v2();
    host.process(42, 7, "java", "/usr/bin/java");
    let key = host.reader().key_of(42).unwrap();
    assert!(host.reader().lives(key) && host.reader().runs(key));
    host.exits(42);
    assert!(host.reader().lives(key), "other threads live on without the first");
    let path = host.root().join("proc/42/stat");
    let stat = fs::read_to_string(&path).unwrap().replace(" 20 0 3 0 ", " 20 0 1 0 ");
    fs::write(path, stat).unwrap();
    assert!(!host.reader().lives(key) && host.reader().runs(key));
    assert!(!host.reader().lives(ProcessKey { pid: 43, ..key }));
}

#[test]
fn a_process_is_read_whole() {
    let host = FakeHost::hybrid();
    host.process(42, 7, "redis (main)", "/usr/bin/redis-server");
    host.write("proc/42/cmdline", b"/usr/bin/redis-server\0*:6379\0\0");
    host.cgroup_file(
        42,
        "4:memory:/\n1:name=systemd:/system.slice/redis.service\n0::/system.slice/redis.service\n",
    );
    let id = host.folder("sys/fs/cgroup/unified/system.slice/redis.service");

    let process = host.reader().read(42).unwrap();
    assert_eq!(process.key, ProcessKey { pid: 42, start: Timestamp::from_nanos(4200 * 10_000_000) });
    assert_eq!(process.parent_pid, 7);
    assert_eq!(process.name, "redis (main)");
    assert_eq!(process.executable.as_deref(), Some("/usr/bin/redis-server"));
    assert_eq!(process.command_line.as_deref(), Some("/usr/bin/redis-server *:6379"));
    assert_eq!(process.user_id, 105);
    let cgroup = process.cgroup.unwrap();
    assert_eq!((cgroup.id, cgroup.path.as_str()), (id, "/system.slice/redis.service"));
    assert_eq!((process.container_id, process.namespace_pid), (None, None));
    assert_eq!(host.reader().unit(42).as_deref(), Some("redis.service"));
}

#[test]
fn a_container_s_process_has_its_id_and_both_pids() {
    let host = FakeHost::v2();
    let id = "a".repeat(63) + "0";
    host.process(50, 1, "app", "/app");
    host.write("proc/50/status", b"Name:\tapp\nUid:\t0\t0\t0\t0\nNSpid:\t50\t12\t3\n");
    host.cgroup_file(50, &format!("0::/system.slice/docker-{id}.scope\n"));
    let process = host.reader().read(50).unwrap();
    assert_eq!(process.container_id, Some(id));
    assert_eq!(process.namespace_pid, Some(3));
}

#[test]
fn what_is_gone_or_garbage_is_none_and_stops_no_scan() {
    let host = FakeHost::v2();
    host.process(10, 1, "good", "/good");
    host.write("proc/11/stat", b"11 (cut");
    host.write("proc/12/stat", b"\xff\xfe\0\0");
    host.write("proc/13/comm", b"only");
    host.write("proc/notes", b"no pid");
    // A name that is not UTF-8 hides no process.
    host.process(14, 1, "odd", "/odd (deleted)");
    host.write("proc/14/status", b"Name:\t\xff\xfe\nUid:\t33\t33\t33\t33\n");
    host.write("proc/14/cmdline", b"\xff\0-x\0");

    let mut found = host.reader().scan().unwrap().processes;
    found.sort_by_key(|process| process.key.pid);
    assert_eq!(found.iter().map(|process| process.key.pid).collect::<Vec<_>>(), [10, 14]);
    assert_eq!((found[1].user_id, found[1].executable.as_deref()), (33, Some("/odd")));
    assert_eq!(found[1].command_line.as_deref(), Some("\u{fffd} -x"));
    assert!(host.reader().read(999).is_none());
}

#[test]
fn a_lineage_within_a_lineage_is_left_out() {
    let host = FakeHost::v2();
    for (pid, parent) in [(10, 1), (11, 10), (12, 10), (13, 12), (14, 11)] {
        host.process(pid, parent, "app", "/app");
    }
    let below = |is_apart: &dyn Fn(u32) -> bool| {
        let mut pids: Vec<_> =
            host.reader().descendants(10, is_apart).into_iter().map(|key| key.pid).collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!(below(&|_| false), [11, 12, 13, 14]);
    assert_eq!(below(&|pid| pid == 12), [11, 14]);
    // Where the kernel lists children.
    host.write("proc/10/task/10/children", b"11 12 ");
    host.write("proc/12/task/12/children", b"13 ");
    assert_eq!(below(&|_| false), [11, 12, 13]);
    assert_eq!(below(&|pid| pid == 12), [11]);
}

#[test]
fn this_very_process_is_found_on_the_real_host() {
    let reader = ProcReader::new("/").unwrap();
    let process = reader.read(std::process::id()).unwrap();
    let exe = std::env::current_exe().unwrap();
    assert_eq!(process.executable.as_deref(), exe.to_str());
    assert!(process.key.start < Timestamp::now());
    assert!(process.cgroup.is_some());
}
