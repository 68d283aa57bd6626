use super::*;
use crate::host::fake::FakeHost;

fn listen(host: &FakeHost, sockets: &[(&str, u16, u64)]) {
    let lines: String = sockets
        .iter()
        .map(|(address, port, inode)| {
            format!("0: {address}:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {inode} 1\n")
        })
        .collect();
    host.write("proc/net/tcp", format!("header\n{lines}").as_bytes());
}

const LOOPBACK: &str = "0100007F";
const ALL: &str = "00000000";
const OTHER: &str = "0500000A";

/// A host with a database of three processes, two Redis, a web server, and hostprobe itself.
fn host() -> FakeHost {
    let host = FakeHost::v2();
    listen(
        &host,
        &[(LOOPBACK, 5432, 1), (ALL, 6379, 2), (OTHER, 6380, 3), (ALL, 80, 4), (ALL, 443, 5), (ALL, 9464, 6)],
    );
    host.process(1, 0, "init", "/sbin/init");
    host.process(10, 1, "postgres", "/usr/lib/postgresql/15/bin/postgres");
    host.process(11, 10, "postgres", "/usr/lib/postgresql/15/bin/postgres");
    host.process(12, 11, "postgres", "/usr/lib/postgresql/15/bin/postgres");
    host.cgroup_file(10, "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n");
    host.fd(12, 4, "socket:[1]");
    host.fd(10, 4, "socket:[1]");
    for (pid, inode) in [(20, 2), (21, 3)] {
        // What Debian's /usr/bin/redis-server is a link to.
        host.process(pid, 1, "redis-server", "/usr/bin/redis-check-rdb");
        host.fd(pid, 4, &format!("socket:[{inode}]"));
    }
    host.process(30, 1, "nginx", "/usr/sbin/nginx");
    host.process(31, 30, "nginx", "/usr/sbin/nginx");
    host.cgroup_file(30, "0::/user.slice/session-1.scope\n");
    host.fd(31, 4, "socket:[4]");
    host.fd(31, 5, "socket:[5]");
    host.process(40, 1, "hostprobe", "/usr/bin/hostprobe");
    host.fd(40, 4, "socket:[6]");
    host
}

#[test]
fn a_running_daemon_is_left_out_also_where_another_process_asks() {
    let host = host();
    host.process(50, 1, "sh", "/bin/sh");
    host.process(51, 50, "hostprobe", "/usr/bin/hostprobe");
    for own in [51, 999] {
        let found = discover(&host.reader(), own).unwrap().services;
        assert!(found.iter().all(|found| !found.ports.contains(&9464)), "{own}: {found:#?}");
        assert_eq!(found.len(), 4);
    }
}

#[test]
fn each_group_that_listens_is_a_service() {
    let found = discover(&host().reader(), 40).unwrap().services;
    let summary: Vec<(&str, Option<&str>, &[u16])> = found
        .iter()
        .map(|found| (found.service.name.as_str(), found.unit.as_deref(), found.ports.as_slice()))
        .collect();
    assert_eq!(
        summary,
        [
            ("nginx", None, [80, 443].as_slice()),
            ("postgresql-15-main", Some("postgresql@15-main.service"), &[5432]),
            ("redis-server-6379", None, &[6379]),
            ("redis-server-6380", None, &[6380]),
        ]
    );
    let matcher = Matcher { exe: Some("/usr/sbin/nginx".into()), port: Some(80), ..Matcher::default() };
    assert_eq!(found[0].service.identity, Identity::Match(matcher));
    assert!(found.iter().all(|found| !found.service.restart.enabled));
}

#[test]
fn known_servers_are_probed_where_they_can_be_reached() {
    let found = discover(&host().reader(), 40).unwrap().services;
    let probes: Vec<Option<String>> =
        found.iter().map(|found| Some(found.service.probes.first()?.target.expose().to_owned())).collect();
    let some = |target: &str| Some(target.to_owned());
    assert_eq!(
        probes,
        [
            None,
            some("postgres://postgres@127.0.0.1:5432/postgres"),
            some("redis://127.0.0.1:6379"),
            some("redis://10.0.0.5:6380"),
        ]
    );
    let probe = &found[1].service.probes[0];
    assert!(probe.auth_is_alive);
    assert_eq!((probe.interval.as_secs(), probe.timeout.as_secs(), probe.failures), (10, 5, 3));
}

#[test]
fn the_printed_configuration_is_valid_toml() {
    let text = to_toml(&discover(&host().reader(), 40).unwrap().services);
    let table: ::toml::Table = text.parse().unwrap();
    let services = table["service"].as_array().unwrap();
    assert_eq!(services.len(), 4);
    assert_eq!(services[0]["match"]["port"].as_integer(), Some(80));
    assert_eq!(services[1]["unit"].as_str(), Some("postgresql@15-main.service"));
    assert!(services[1].get("match").is_none(), "at most one of unit, exec and match");
    assert_eq!(services[2]["probe"][0]["redis"].as_str(), Some("redis://127.0.0.1:6379"));
    // What runs without a configuration and what this one says of a server that asks for a password is the same.
    assert_eq!(services[2]["probe"][0]["login_required"].as_bool(), Some(false));
    assert_eq!(services[2]["probe"][0]["interval"].as_str(), Some("10s"));
    assert_eq!(services[3]["restart"]["enabled"].as_bool(), Some(false));

    assert!(to_toml(&[]).parse::<::toml::Table>().unwrap().is_empty());
}

/// What the configuration itself says of a text.
fn load(text: &str) -> crate::config::Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("found.toml");
    std::fs::write(&file, text).unwrap();
    let value = serde_json::to_value(text.parse::<::toml::Table>().unwrap()).unwrap();
    jsonschema::draft202012::validate(&crate::config::schema(), &value).expect("what the schema accepts");
    crate::config::Config::load(&file).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn the_printed_configuration_is_accepted() {
    let host = host();
    host.cgroup_file(20, "0::/system.slice/cache.service\n");
    host.cgroup_file(21, "0::/system.slice/cache.service\n");
    let found = discover(&host.reader(), 40).unwrap().services;
    let names: Vec<&str> = found.iter().map(|found| found.service.name.as_str()).collect();
    assert_eq!(names, ["nginx", "postgresql-15-main", "cache-6379", "cache-6380"]);
    let config = load(&to_toml(&found));
    let unit = |unit: &str| Identity::Unit(unit.to_owned());
    assert_eq!(config.services.len(), 3, "a unit is one service");
    assert_eq!(config.services[1].identity, unit("postgresql@15-main.service"));
    assert_eq!(
        (config.services[2].name.as_str(), &config.services[2].identity),
        ("cache", &unit("cache.service"))
    );
    assert_eq!(config.services[2].probes.len(), 2);
}

#[test]
fn similar_servers_have_different_names() {
    let host = FakeHost::v2();
    listen(&host, &[(LOOPBACK, 80, 1), (OTHER, 80, 2), (ALL, 81, 3), (LOOPBACK, 80, 4), (ALL, 82, 5)]);
    let files = ["/a/web", "/a/web", "/a/web", "/b/web", "/c/web-80"];
    for ((pid, inode), file) in (10..).zip(1..).zip(files) {
        host.process(pid, 1, "x", file);
        host.fd(pid, 3, &format!("socket:[{inode}]"));
    }
    let found = discover(&host.reader(), 1).unwrap().services;
    let mut names: Vec<&str> = found.iter().map(|found| found.service.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["web-80", "web-80-2", "web-80-3", "web-81"], "one file on one port is one service");
    assert_eq!(load(&to_toml(&found)).services.len(), 4);
}

#[test]
fn a_name_holds_nothing_that_a_configuration_refuses() {
    assert_eq!(name::of(Some("getty@tty1.service"), "agetty"), "getty-tty1");
    assert_eq!(name::of(None, "wéb server:1"), "w-b-server-1");
    assert_eq!(name::of(None, ""), "unnamed");
    assert_eq!(name::of(None, &"x".repeat(200)).len(), 52);
}

#[test]
fn an_executable_without_a_path_here_is_left_out() {
    let host = FakeHost::v2();
    listen(&host, &[(LOOPBACK, 8080, 1)]);
    host.process(10, 10, "x", "(unreachable)/usr/sbin/x");
    host.fd(10, 1, "socket:[1]");
    let found = discover(&host.reader(), 1).unwrap().services;
    let table: ::toml::Table = to_toml(&found).parse().unwrap();
    let matched = &table["service"][0]["match"];
    assert_eq!((matched.get("exe"), matched["port"].as_integer()), (None, Some(8080)));
}

#[test]
fn an_executable_with_odd_characters_is_quoted() {
    let host = FakeHost::v2();
    listen(&host, &[(LOOPBACK, 8080, 1)]);
    host.process(10, 10, "x", "/opt/a \"b\"\\c\n");
    host.fd(10, 1, "socket:[1]");
    let found = discover(&host.reader(), 1).unwrap().services;
    let table: ::toml::Table = to_toml(&found).parse().unwrap();
    assert_eq!(table["service"][0]["match"]["exe"].as_str(), Some("/opt/a \"b\"\\c\n"));
}
