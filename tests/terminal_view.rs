//! `hostprobe status --watch` in a real terminal.

use std::{process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    operator::Home,
    parts::{built, require, require_root},
    process::until,
    supervised::Supervised,
    terminal_view::{TMUX, View},
};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_operator_sees_a_fault_and_acts_on_it() {
    if !require_root() || !require("tmux", TMUX) {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let daemon = Daemon::start(&home.supervising(&service), &[]);
    service.until_healthy(&daemon);
    let view = View::open(&home, (100, 60), "LC_ALL=C.UTF-8");
    view.until_it_shows(&[&service.name, " healthy ", "1 services: 1 healthy", "waits for cpu", " ms"]);

    view.press("p");
    view.until_it_shows(&[&format!("pause {} for 30 min? (y/n)", service.name)]);
    assert!(home.status(&service.name)["orders"].is_null(), "nothing is ordered without a yes");
    view.press("y");
    view.until_it_shows(&["paused by root", "operator.command"]);
    let main = service.pid(&daemon);
    kill_process(Pid::from_raw(main.cast_signed()).expect("a pid"), Signal::KILL).expect("it lives");
    view.until_it_shows(&["1 open incidents", "killed", "incident.open", "not restarted"]);
    view.press("Enter");
    view.until_it_shows(&["confidence:", "Esc: back"]);
    view.press("Escape");
    // A key right after it would be taken for one with Alt.
    view.until_it_shows(&[" q quit"]);
    view.press("p");
    view.until_it_shows(&[&format!("resume {}? (y/n)", service.name)]);
    view.press("y");
    view.until_it_shows(&["1 services: 1 healthy", "0 open incidents"]);

    // A key takes away what the last command led to.
    view.press("Home");
    let resized = view.tmux(&["resize-window", "-x", "60", "-y", "12"]);
    assert!(resized.status.success(), "{resized:?}");
    let shown = view.until_it_shows(&[" q quit", "healthy"]);
    assert!(shown.lines().count() <= 12, "{shown}");

    view.press("q");
    view.until_it_shows(&["ended with 0"]);
}

#[test]
fn the_view_outlives_a_daemon_and_finds_the_next_one() {
    if !require_root() || !require("tmux", TMUX) {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let config = home.supervising(&service);
    let mut daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    let view = View::open(&home, (80, 24), "LC_ALL=C.UTF-8 NO_COLOR=1");
    view.until_it_shows(&[&service.name, " healthy "]);
    assert!(daemon.stop().success());
    view.until_it_shows(&["last known:", &service.name]);
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    until("the next daemon's services", PATIENCE, || {
        let shown = view.shown();
        (shown.contains(" healthy ") && !shown.contains("last known")).then_some(())
    });
    // Without colours there is none in what the terminal was sent.
    let shown = String::from_utf8_lossy(&view.tmux(&["capture-pane", "-p", "-e"]).stdout).into_owned();
    let colours = (0..8).map(|colour| format!("\u{1b}[3{colour}m"));
    assert!(colours.into_iter().all(|colour| !shown.contains(&colour)), "{shown:?}");
    view.press("C-c");
    view.until_it_shows(&["ended with 0"]);
}

#[test]
fn without_a_terminal_it_says_what_works_there() {
    if !require_root() {
        return;
    }
    let said = Command::new(built("hostprobe")).args(["status", "--watch"]).output().expect("it runs");
    let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(2) && complaint.contains("needs a terminal"), "{complaint}");
}
