//! The commands that run are there for the next daemon, and only if no other user can have written them.

use std::fs::Permissions;

use serde_json::json;

use super::*;
use crate::act::supervisor::RunningCommand;

fn command(pid: u32) -> Box<RunningCommand> {
    let command = json!({
        "process": {"pid": pid, "start": 90_000_000},
        "scope": {"boot_id": "b", "pid_namespace": 4_026_531_836_u32},
        "cgroup": {"id": 7, "path": "/hostprobe-1-1/service-web"},
        "program": "/bin/web",
        "digest": "d",
        "stop_signal": 15,
        "stop_timeout": {"secs": 10, "nanos": 0},
        "output": null,
    });
    Box::new(serde_json::from_value(command).unwrap())
}

/// One run of the daemon; returns what an earlier one left.
fn run_with(folder: &Path, keep: &[(&str, Option<u32>)]) -> Vec<(String, u32)> {
    let (store, remembered) = open(folder);
    for (service, pid) in keep {
        store.keep_command(service, pid.map(command));
    }
    store.shutdown(LONG);
    let pids = remembered.commands.into_iter().map(|(service, command)| (service, command.process.pid));
    pids.collect()
}

fn file(folder: &Path) -> Connection {
    Connection::open(folder.join("state.db")).unwrap()
}

#[test]
fn commands_outlive_the_daemon_until_they_end() {
    let folder = TempDir::new().unwrap();
    let of = |name: &str, pid| (name.to_owned(), pid);
    assert_eq!(run_with(folder.path(), &[("web", Some(1)), ("db", Some(2)), ("web", Some(3))]), []);
    assert_eq!(run_with(folder.path(), &[("db", None)]), [of("db", 2), of("web", 3)]);
    assert_eq!(run_with(folder.path(), &[]), [of("web", 3)]);
    let (_, remembered) = open(folder.path());
    assert!(remembered.services().contains("web"));
}

#[test]
fn a_command_that_cannot_be_read_costs_no_other() {
    let folder = TempDir::new().unwrap();
    run_with(folder.path(), &[("web", Some(1)), ("db", Some(2)), ("cache", Some(3))]);
    let connection = file(folder.path());
    connection.execute("UPDATE commands SET command = '{\"pid\": 1}' WHERE service = 'web'", []).unwrap();
    connection.execute("UPDATE commands SET command = 'nonsense' WHERE service = 'db'", []).unwrap();
    drop(connection);
    assert_eq!(run_with(folder.path(), &[]), [("cache".to_owned(), 3)]);
}

#[test]
fn a_file_that_others_may_write_to_names_no_command() {
    let folder = TempDir::new().unwrap();
    run_with(folder.path(), &[("web", Some(1))]);
    let path = folder.path().join("state.db");
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    assert_eq!(run_with(folder.path(), &[]), []);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(run_with(folder.path(), &[]), [("web".to_owned(), 1)]);
}
