use tokio::net::TcpListener;

use super::*;
use crate::{
    fact::ProbeKind,
    probe::{Clients, run_once, tests::probe},
};

/// Probes a listener that expects these commands, answers each as given, and closes. An answer to an empty
/// command is sent at once.
async fn fake_server(script: &[(&str, &str)], change: impl FnOnce(&mut Probe)) -> ProbeOutcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = probe(ProbeKind::Redis, &format!("redis://{}", listener.local_addr().unwrap()));
    change(&mut probe);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (command, reply) in script {
            let parts: Vec<&str> = command.split_whitespace().collect();
            let mut expected = cmd(parts.first().unwrap_or(&""));
            expected.arg(parts.get(1..).unwrap_or_default());
            let expected = if command.is_empty() { Vec::new() } else { expected.get_packed_command() };
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected));
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    };
    let clients = Clients::new().unwrap();
    tokio::join!(serve, run_once(&probe, &clients)).1.1
}

fn failure(outcome: ProbeOutcome) -> (ProbeFailure, String) {
    let ProbeOutcome::Failed(kind, text) = outcome else { panic!("{outcome:?}") };
    (kind, text)
}

fn bulk(info: &str) -> String {
    format!("${}\r\n{info}\r\n", info.len())
}

#[tokio::test]
async fn ping_and_one_info_are_all_that_is_sent() {
    let info = bulk("# Memory\r\nused_memory:5\r\nmaxmemory:0\r\n");
    assert_eq!(fake_server(&[("PING", "+PONG\r\n"), ("INFO", &info)], |_| {}).await, ProbeOutcome::Ok);
}

#[tokio::test]
async fn a_server_that_keeps_info_from_us_works_unless_its_memory_is_watched() {
    let script = [("PING", "+PONG\r\n"), ("INFO", "-NOPERM no permissions to run the 'info' command\r\n")];
    assert_eq!(fake_server(&script, |_| {}).await, ProbeOutcome::Ok);
    let watched = fake_server(&script, |probe| probe.memory_percent = Some(90)).await;
    assert_eq!(failure(watched).0, ProbeFailure::Auth);
}

#[tokio::test]
async fn a_replica_that_refuses_answers_without_its_primary_differs_from_a_replica_that_copies_it() {
    let down = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n";
    let lost = bulk(
        "role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\n\
         master_link_down_since_seconds:7\r\n",
    );
    let (kind, text) = failure(fake_server(&[("PING", down), ("INFO replication", &lost)], |_| {}).await);
    assert_eq!(kind, ProbeFailure::Replication);
    assert!(text.contains("its link to its primary h:1 is down for 7 s; answered: MASTERDOWN"), "{text}");
    let copies = bulk("role:slave\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\n");
    let outcome = fake_server(&[("PING", down), ("INFO replication", &copies)], |_| {}).await;
    assert_eq!(outcome, ProbeOutcome::Starting("it copies the data set of its primary".to_owned()));
}

#[tokio::test]
async fn a_replica_that_waits_for_its_first_sync_is_starting() {
    let waits = |since: &str| {
        bulk(&format!(
            "role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\n\
             master_link_down_since_seconds:{since}\r\n"
        ))
    };
    let words = "is a replica, and its link to its primary h:1 has not come up";
    let starting = ProbeOutcome::Starting(words.to_owned());
    for since in ["-1", "1790000000"] {
        let info = waits(since);
        assert_eq!(fake_server(&[("PING", "+PONG\r\n"), ("INFO", &info)], |_| {}).await, starting, "{since}");
        let down = "-MASTERDOWN Link with MASTER is down\r\n";
        let script = [("PING", down), ("INFO replication", info.as_str())];
        assert_eq!(fake_server(&script, |_| {}).await, starting, "{since}");
    }
    let lost = waits("7");
    let outcome = fake_server(&[("PING", "+PONG\r\n"), ("INFO", &lost)], |_| {}).await;
    assert_eq!(failure(outcome).0, ProbeFailure::Replication);
}

#[tokio::test]
async fn a_loading_server_is_starting_with_its_progress() {
    let info = "# Persistence\r\nloading:1\r\nloading_loaded_perc:41.5\r\nloading_eta_seconds:12\r\n";
    let bulk = format!("${}\r\n{info}\r\n", info.len());
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    let outcome = fake_server(&[("PING", loading), ("INFO persistence", &bulk)], |_| {}).await;
    let words = "Redis is loading the dataset in memory (41.5 % loaded, about 12 s to go)";
    assert_eq!(outcome, ProbeOutcome::Starting(words.to_owned()));

    let outcome = fake_server(&[("PING", loading)], |_| {}).await;
    assert_eq!(outcome, ProbeOutcome::Starting("Redis is loading the dataset in memory".to_owned()));
}

#[tokio::test]
async fn refused_credentials_count_as_up_if_the_probe_allows_it() {
    for words in [
        "NOAUTH Authentication required.",
        "WRONGPASS invalid pair",
        "DENIED Redis is running in protected mode",
        "ERR operation not permitted",
    ] {
        let reply = format!("-{words}\r\n");
        let (kind, text) = failure(fake_server(&[("PING", &reply)], |_| {}).await);
        assert_eq!(kind, ProbeFailure::Auth, "{words}");
        assert!(text.ends_with(words), "{text}");
        let alive = fake_server(&[("PING", &reply)], |probe| probe.auth_is_alive = true).await;
        assert_eq!(alive, ProbeOutcome::Ok, "{words}");
    }
}

#[tokio::test]
async fn a_server_with_too_many_clients_speaks_first() {
    let full = [("", "-ERR max number of clients reached\r\n")];
    assert_eq!(failure(fake_server(&full, |_| {}).await).0, ProbeFailure::TooManyConnections);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_says_why_in_its_info() {
    let refused = "-MISCONF Errors writing to the AOF file\r\n";
    let failed = bulk("rdb_changes_since_last_save:3\r\nrdb_last_bgsave_status:err\r\n");
    let (kind, text) = failure(fake_server(&[("PING", refused), ("INFO", &failed)], |_| {}).await);
    assert_eq!(kind, ProbeFailure::Persistence);
    assert!(text.ends_with("3 changes are not on the disk"), "{text}");
    for info in [bulk("role:master\r\n"), "-NOPERM no permissions\r\n".to_owned()] {
        let (kind, text) = failure(fake_server(&[("PING", refused), ("INFO", &info)], |_| {}).await);
        assert_eq!(kind, ProbeFailure::Persistence);
        assert!(text.ends_with("answered: MISCONF Errors writing to the AOF file"), "{text}");
    }
}

#[tokio::test]
async fn only_a_node_of_a_cluster_and_a_sentinel_are_asked_about_their_members() {
    let node = bulk("role:master\r\ncluster_enabled:1\r\n");
    let ask = |reply: &'static str| [("PING", "+PONG\r\n"), ("INFO", node.as_str()), ("CLUSTER INFO", reply)];
    let down = bulk("cluster_state:fail\r\ncluster_slots_assigned:10923\r\n");
    let script = [("PING", "+PONG\r\n"), ("INFO", node.as_str()), ("CLUSTER INFO", down.as_str())];
    let (kind, text) = failure(fake_server(&script, |_| {}).await);
    assert_eq!(kind, ProbeFailure::Cluster);
    assert!(text.contains("5461 of its 16384 slots"), "{text}");
    assert_eq!(fake_server(&ask("-NOPERM no permissions\r\n"), |_| {}).await, ProbeOutcome::Ok);

    let sentinel = bulk("redis_mode:sentinel\r\nmaster0:name=a,status=ok\r\nmaster1:name=b,status=ok\r\n");
    let script = [
        ("PING", "+PONG\r\n"),
        ("INFO", sentinel.as_str()),
        ("SENTINEL CKQUORUM a", "+OK 3 usable Sentinels.\r\n"),
        ("SENTINEL CKQUORUM b", "-NOQUORUM 1 usable Sentinels.\r\n"),
    ];
    let (kind, text) = failure(fake_server(&script, |_| {}).await);
    assert_eq!(kind, ProbeFailure::Cluster);
    assert!(text.contains("to fail over b, and answered: NOQUORUM"), "{text}");
}

#[tokio::test]
async fn other_errors_and_other_servers_have_their_own_failures() {
    for (words, expected) in [
        ("BUSY Redis is busy running a script", ProbeFailure::Busy),
        ("CLUSTERDOWN The cluster is down", ProbeFailure::Upstream),
        ("ERR no upstream host", ProbeFailure::Upstream),
        ("NOPERM User default has no permissions to run the 'ping' command", ProbeFailure::Auth),
        ("DENIED Redis is running in protected mode", ProbeFailure::Auth),
        ("OOM command not allowed when used memory > 'maxmemory'", ProbeFailure::MemoryFull),
        ("ERR unknown command", ProbeFailure::Rejected),
        ("NOREPLICAS Not enough good replicas to write.", ProbeFailure::Rejected),
        ("A word that is yet to come", ProbeFailure::Rejected),
    ] {
        let reply = format!("-{words}\r\n");
        let (kind, text) = failure(fake_server(&[("PING", &reply)], |_| {}).await);
        assert_eq!(kind, expected);
        assert!(text.ends_with(&format!("answered: {words}")), "{text}");
    }
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\n", "$99999999999\r\n", "$-1\r\n"] {
        assert_eq!(
            failure(fake_server(&[("PING", reply)], |_| {}).await).0,
            ProbeFailure::Protocol,
            "{reply:?}"
        );
    }
    for cut in ["", "+PON", "$100\r\nhalf"] {
        assert_eq!(failure(fake_server(&[("PING", cut)], |_| {}).await).0, ProbeFailure::Reset, "{cut:?}");
    }
}

#[tokio::test]
async fn memory_is_measured_against_maxmemory() {
    let outcome = async |used: u64, max: u64| {
        let info = format!("# Memory\r\nused_memory:{used}\r\nmaxmemory:{max}\r\n");
        let bulk = bulk(&info);
        let script = [("PING", "+PONG\r\n"), ("INFO", bulk.as_str())];
        fake_server(&script, |probe| probe.memory_percent = Some(90)).await
    };
    assert_eq!(outcome(90, 100).await, ProbeOutcome::Ok);
    assert_eq!(outcome(90, 0).await, ProbeOutcome::Ok, "no maxmemory, no limit");
    let (kind, text) = failure(outcome(95, 100).await);
    assert_eq!(kind, ProbeFailure::Memory);
    assert!(text.contains("95 % of its maxmemory (95 of 100 bytes), more than 90 %"), "{text}");
}
