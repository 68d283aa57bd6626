//! Listeners and execs.

use std::{net::TcpListener, process::Command};

use super::*;

#[test]
fn a_listener_is_reported_when_it_opens_and_closes() {
    let Some(mut fixture) = fixture("a_listener_is_reported_when_it_opens_and_closes") else { return };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let local = listener.local_addr().unwrap();
        let of_port = |record| {
            if let Record::Listen(listen) = record {
                Some(listen).filter(|it| it.port == local.port())
            } else {
                None
            }
        };
        let up = fixture.wait_for("listener up", of_port);
        assert!(up.up && up.address == local.ip() && up.pid == std::process::id(), "{up:?}");
        drop(listener);
        let down = fixture.wait_for("listener down", of_port);
        assert!(!down.up && down.address == local.ip(), "{down:?}");
    }
}

#[test]
fn an_exec_is_reported_with_its_command_line() {
    let Some(mut fixture) = fixture("an_exec_is_reported_with_its_command_line") else { return };
    let long = "x".repeat(1000);
    let mut child = Command::new("/bin/true").args(["one", "", "two words", &long]).spawn().unwrap();
    let exec = fixture.wait_for("exec", |record| {
        if let Record::Exec(exec) = record { Some(exec).filter(|it| it.pid == child.id()) } else { None }
    });
    child.wait().unwrap();
    let image = exec.image.unwrap();
    assert_eq!((image.filename.as_str(), image.comm.as_str()), ("/bin/true", "true"));
    assert_eq!(image.arguments[..4], ["/bin/true", "one", "", "two words"]);
    assert!(image.arguments_truncated && image.arguments[4].starts_with("xxx"));
    assert_eq!(image.parent_pid, std::process::id());
}
