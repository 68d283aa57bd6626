//! One survey for many services finds the same as a survey for each.

use super::*;
use crate::{config::Matcher, host::fake::FakeHost};

const ANY: &str = "00000000000000000000000000000000";

/// A line of `/proc/net/tcp` of a listener.
fn line(local: &str, inode: u64) -> String {
    format!(
        "   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    )
}

/// A process that holds these sockets, in the network namespace of the daemon.
fn process(host: &FakeHost, pid: u32, parent: u32, sockets: &[u64]) {
    host.process(pid, parent, "app", "/app");
    host.link(&format!("proc/{pid}/ns/net"), "net:[1]");
    for (number, inode) in (3..).zip(sockets) {
        host.fd(pid, number, &format!("socket:[{inode}]"));
    }
}

fn main_at(survey: &Survey, port: u16) -> Option<u32> {
    survey.find_main(&Matcher { port: Some(port), ..Matcher::default() }).map(|key| key.pid)
}

#[test]
fn a_shared_listener_is_the_topmost_s_and_one_port() {
    let host = FakeHost::v2();
    let listener = line("0100007F:1F90", 7);
    host.write("proc/net/tcp", listener.as_bytes());
    // A master and its workers, of which one has a lower pid, and another process.
    for (pid, parent) in [(20, 1), (15, 20), (21, 20)] {
        process(&host, pid, parent, &[7]);
        host.write(&format!("proc/{pid}/net/tcp"), listener.as_bytes());
    }
    process(&host, 10, 1, &[9]);
    let survey = Survey::new(host.reader());
    assert_eq!(main_at(&survey, 8080), Some(20));
    assert_eq!(ports(&survey, 20), [8080]);
    assert_eq!((main_at(&survey, 8081), ports(&survey, 10)), (None, vec![]));
}

#[test]
fn of_several_sockets_on_one_port_the_oldest_process_counts() {
    let host = FakeHost::v2();
    // With SO_REUSEPORT each has a socket of its own.
    let table = [line("00000000:1F90", 7), line("00000000:1F90", 8)].concat();
    host.write("proc/net/tcp", table.as_bytes());
    process(&host, 31, 1, &[7]);
    process(&host, 30, 1, &[8]);
    host.write("proc/30/net/tcp", table.as_bytes());
    let survey = Survey::new(host.reader());
    assert_eq!(main_at(&survey, 8080), Some(30));
    assert_eq!(ports(&survey, 30), [8080]);
}

#[test]
fn a_dual_stack_listener_and_one_of_each_family_are_found() {
    let host = FakeHost::v2();
    let (v4, v6) =
        (line("0100007F:0051", 7), [line(&format!("{ANY}:0050"), 8), line(&format!("{ANY}:0051"), 9)]);
    host.write("proc/net/tcp", v4.as_bytes());
    host.write("proc/net/tcp6", v6.concat().as_bytes());
    process(&host, 10, 1, &[8]);
    process(&host, 11, 1, &[7, 9]);
    for pid in [10, 11] {
        host.write(&format!("proc/{pid}/net/tcp"), v4.as_bytes());
        host.write(&format!("proc/{pid}/net/tcp6"), v6.concat().as_bytes());
    }
    let survey = Survey::new(host.reader());
    assert_eq!((main_at(&survey, 80), main_at(&survey, 81)), (Some(10), Some(11)));
    assert_eq!(ports(&survey, 10), [80]);
    assert_eq!(ports(&survey, 11), [81, 81], "two sockets");
}

#[test]
fn a_port_in_another_network_namespace_belongs_to_its_process_and_is_free_here() {
    let host = FakeHost::v2();
    host.write("proc/net/tcp", line("00000000:0050", 7).as_bytes());
    process(&host, 10, 1, &[7]);
    host.write("proc/10/net/tcp", line("00000000:0050", 7).as_bytes());
    host.process(20, 1, "container", "/app");
    host.link("proc/20/ns/net", "net:[2]");
    host.fd(20, 3, "socket:[8]");
    host.write("proc/20/net/tcp", line("00000000:0051", 8).as_bytes());
    let survey = Survey::new(host.reader());
    assert_eq!((main_at(&survey, 80), main_at(&survey, 81)), (Some(10), None));
    assert_eq!((ports(&survey, 10), ports(&survey, 20)), (vec![80], vec![81]));
}

#[test]
fn a_survey_reads_once_and_the_next_one_reads_again() {
    let host = FakeHost::v2();
    host.write("proc/net/tcp", line("00000000:0050", 7).as_bytes());
    process(&host, 10, 1, &[7]);
    let before = Survey::new(host.reader());
    assert_eq!(main_at(&before, 80), Some(10));
    host.write("proc/net/tcp", line("00000000:0051", 8).as_bytes());
    process(&host, 11, 1, &[8]);
    assert_eq!((main_at(&before, 80), main_at(&before, 81)), (Some(10), None));
    let after = Survey::new(host.reader());
    assert_eq!((main_at(&after, 80), main_at(&after, 81)), (None, Some(11)));
}

#[test]
fn netlink_and_the_proc_tables_agree_on_the_real_host() {
    let listener = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let survey = Survey::new(ProcReader::new("/").unwrap());
    let at = |sockets: Sockets| sockets.into_values().filter(|it| it.1 == port).collect::<Vec<_>>();
    let listed = at(survey.reader.own_listening().unwrap());
    assert_eq!(listed, at(survey.reader.listening("/proc/net".as_ref()).unwrap()));
    assert_eq!(listed.len(), 1);
    assert_eq!(survey.listening_on(port, None), [std::process::id()]);
    assert!(ports(&survey, std::process::id()).contains(&port));
}

#[test]
fn each_socket_of_a_shared_port_counts_and_a_shared_socket_counts_once() {
    let host = FakeHost::v2();
    let reuse = [line("0100007F:0050", 7), line("0100007F:0050", 8), line("0100007F:0050", 9)];
    host.write("proc/net/tcp", reuse.concat().as_bytes());
    host.write("proc/10/net/tcp", reuse.concat().as_bytes());
    process(&host, 10, 1, &[7]);
    process(&host, 11, 10, &[7, 8]);
    process(&host, 12, 10, &[9]);
    let survey = Survey::new(host.reader());
    assert_eq!(ports(&survey, 10), [80, 80, 80]);
    let holders: Vec<u32> =
        survey.listeners_on(80, Some(10)).unwrap().iter().map(|socket| socket.pid).collect();
    assert_eq!(holders, [10, 11, 12]);
    assert_eq!(survey.listeners_on(81, Some(10)), Some(vec![]));
}

#[test]
fn of_two_programs_on_one_port_the_probes_address_tells_which_is_meant() {
    let host = FakeHost::v2();
    let lines = [line("0100007F:1F90", 7), line("0200007F:1F90", 8)];
    host.write("proc/net/tcp", lines.concat().as_bytes());
    process(&host, 10, 1, &[7]);
    process(&host, 20, 1, &[8]);
    let found = |address: Option<[u8; 4]>| {
        let address = address.map(IpAddr::from);
        let matcher = Matcher { port: Some(8080), address, ..Matcher::default() };
        Survey::new(host.reader()).find_main(&matcher).map(|key| key.pid)
    };
    assert_eq!(found(Some([127, 0, 0, 2])), Some(20));
    assert_eq!(found(Some([127, 0, 0, 1])), Some(10));
    assert_eq!(found(Some([192, 0, 2, 1])), Some(10), "no socket accepts it, so the oldest is meant");
    assert_eq!(found(None), Some(10));
}

/// The ports that a process and its descendants listen on, one for each socket.
fn ports(survey: &Survey, main: u32) -> Vec<u16> {
    survey.listening_of(main).iter().map(SocketAddr::port).collect()
}
