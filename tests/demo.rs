//! The demonstration shows every fault with its verdict and its action, and what it keeps can be explained.

use std::{
    fs,
    process::{Command, Output},
};

use hostprobe_tests::{
    memcg::MemoryCgroup,
    parts::{PostgresFolder, Redis, available, built, require, require_root},
};

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_step_of_the_demo_reaches_its_expected_outcome() {
    let postgres = available(PostgresFolder::is_installed(), "the package postgresql");
    if !require_root() || !require("redis-server", Redis::PROGRAM) || !postgres {
        return;
    }
    if !available(MemoryCgroup::new(30 << 20).is_ok(), "a memory cgroup") {
        return;
    }
    let output = Command::new(built("demo")).output().expect("it can be run");
    let said = text(&output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let heading = said.find("fault ").expect("a heading");
    let rows = said[heading..].lines().skip(1).take_while(|line| !line.is_empty()).count();
    assert_eq!(rows, 11, "{said}");
    let command =
        said.lines().find_map(|line| line.strip_prefix("to explain one incident: ")).expect("a command");
    let words: Vec<&str> = command.split(' ').collect();
    let explained = Command::new(words[0]).args(&words[1..]).output().expect("it can be run");
    assert!(explained.status.success(), "{}", text(&explained));
    let explanation = text(&explained);
    assert!(explanation.contains("killed") && explanation.contains("web"), "{explanation}");
    let kept = said.lines().find_map(|line| line.strip_prefix("events, snapshots and logs are kept in "));
    fs::remove_dir_all(kept.expect("a folder")).expect("it can be removed");
}
