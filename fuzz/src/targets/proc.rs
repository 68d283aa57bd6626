//! The files of `/proc` and of cgroups, which processes fill with names and arguments of their choice, and pidfiles.
use std::path::{Path, PathBuf};

use hostprobe::{
    config::{Matcher, fuzz::check},
    discover::{discover, to_toml},
    emit::Origin,
    host::{Cgroups, ProcReader, Survey, cgroup, mount, pidfile, place},
    sensor::ebpf::stack::{Scopes, Table},
    stacks::ElfHeader,
};
use hostprobe_fuzz::host::Host;

std::thread_local! {
    static HOST: Host = Host::new();
}

const PORTS: [u16; 2] = [80, 5432];

pub fn fuzz(input: &[u8]) {
    HOST.with(|host| {
        host.become_like(input);
        read_host(host.root());
    });
}

fn read_host(root: &Path) {
    let proc = root.join("proc");
    let _ = Origin::read(&proc);
    let _ = place::find(root, 10);
    let _ = pidfile::read(&root.join("run/pid"));
    let table = Table::open(&proc.join("kallsyms")).ok();
    let _ = Scopes::of(table).oom_scope(&[0, 0xffff_ffff_8100_0000, u64::MAX]);
    if let Ok(file) = std::fs::File::open(root.join("program"))
        && let Some(header) = ElfHeader::read(&file)
    {
        let _ = (header.base(), header.address_of(0), header.address_of(u64::MAX), header.section(".symtab"));
    }
    let Ok(reader) = ProcReader::new(root) else { return };
    read_processes(&reader);
    read_sockets(&reader);
    find(&reader, root);

    // Whatever processes are called, what is discovered is a configuration that the daemon accepts.
    if let Ok(found) = discover(&reader, 1).map(|found| found.services) {
        let text = to_toml(&found);
        assert!(!text.contains(|char: char| char.is_control() && char != '\n'), "{text:?}");
        let config = check(&text, "x").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert!(config.services.len() <= found.len());
    }
}

fn read_processes(reader: &ProcReader) {
    for pid in [10, 11] {
        let _ = (
            reader.read(pid),
            reader.remains(pid),
            reader.descent(pid),
            reader.unit(pid),
            reader.own_unit(pid),
        );
        let _ = (reader.threads(pid, 16), reader.wait(pid, pid), reader.wait_channel(pid, pid));
        let _ = (reader.cgroups().frozen(pid), reader.cgroups().memory_limit_of(pid));
        let call = reader.call(pid, pid);
        let _ = (call.and_then(|call| call.position()), reader.tracer_of(pid, pid));
        for mapping in reader.code_mappings(pid) {
            assert!(!mapping.range.is_empty() && !mapping.file_name().contains('/'), "{mapping:?}");
        }
        let tree = reader.process_tree().of(pid);
        assert!(tree.len() <= 2, "{tree:?}");
        assert!(reader.descendants(pid, |_| false).len() <= 2);
        for path in reader.cgroups().of(pid).paths() {
            let _ = (cgroup::unit_name(path), cgroup::own_unit_name(path), cgroup::container_id(path));
        }
        if let Some(key) = reader.key_of(pid) {
            let _ = (reader.runs(key), reader.has_terminal(key));
            let sample = reader.sample(key);
            let _ = sample.and_then(|sample| reader.examine(&sample));
        }
    }
    let _ = (reader.scan(), reader.memory_total(), reader.standstill(&[10, 11]));
    let usage = reader.usage(&[10, 11]);
    let _ = (usage.cpu_percent(&usage), usage.memory_percent(Some(0), 0));
    let stalls = reader.stalls();
    let _ = stalls.since(&stalls);
    let _ = (reader.tasks(), reader.host_open_files(), reader.tracked_connections(), reader.neighbours());
    let _ = (reader.local_ports(), reader.tcp_sockets(), reader.memory(), reader.cpu_times());
    let _ = (reader.throttled(), reader.memory_errors(), reader.written_by(10));
    let mounts = reader.mounts().map(|(mounts, _)| mount::file_systems(mounts)).unwrap_or_default();
    assert!(mount::mount_at(&mounts, "/a").is_none_or(|it| "/a".starts_with(&it.point)));
    let cgroups: &Cgroups = reader.cgroups();
    let _ = (cgroups.mode(), cgroups.of_self(), cgroups.show_a_part());
}

fn read_sockets(reader: &ProcReader) {
    let _ = (reader.addresses(), reader.listeners(), reader.port_holder(&PORTS));
    let _ = (reader.connections_to(&PORTS), reader.sockets_around(10, true), reader.accept_queues(&[10, 11]));
    let ends = reader.sockets_around(10, true).map(|(listeners, _)| listeners.into_values().collect());
    let _ = reader.owners_of(&[ends.unwrap_or_default()]);
}

fn find(reader: &ProcReader, root: &Path) {
    let survey = Survey::new(reader.clone());
    let _ = (survey.listening_of(10), survey.listeners_on(80, Some(10)), survey.outbound_of(10));
    let any = Matcher::default;
    for matcher in [
        Matcher { pidfile: Some(root.join("run/pid")), ..any() },
        Matcher { pidfile: Some(root.join("run/pid")), exe: Some(PathBuf::from("/bin/a")), ..any() },
        Matcher { exe: Some(PathBuf::from("/bin/a")), ..any() },
        Matcher { port: Some(80), ..any() },
        Matcher { cgroup: Some("/a".to_owned()), ..any() },
        Matcher { container: Some("web".to_owned()), ..any() },
    ] {
        let _ = (survey.find_main(&matcher), survey.pidfile_problem(&matcher));
    }
}
