//! Event files: rotated by size and age, and compressed, while events come.

use std::{fs, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    operator::Home,
    parts::{require, require_root},
    process::until,
    storm::{Manner, Storm},
    supervised::Supervised,
};
use serde_json::Value;

const ZSTD: &str = "/usr/bin/zstd";

const PATIENCE: Duration = Duration::from_secs(120);

/// Deaths that are events of about a kilobyte each, so that some files of 64 KiB are filled.
const DEATHS: u64 = 600;

fn unpacked(file: &Path) -> String {
    let output = Command::new(ZSTD).args(["--decompress", "--stdout", "--quiet"]).arg(file).output();
    let output = output.expect("zstd runs");
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn old_files_are_compressed_and_hold_every_event_in_order() {
    if !require_root() || !require("zstd", ZSTD) {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let log = home.path("events.ndjson");
    let config = format!(
        "[kernel]\nunwatched_exits_per_second = 1000000\n[events]\noutput = [\"-\", {log:?}]\n\
         output_max = \"64KiB\"\noutput_keep = 100\noutput_compress = true\n{}",
        home.supervising(&service)
    );
    let mut daemon = Daemon::start_to_file(&config, &[]);
    service.until_healthy(&daemon);
    let mut storm = Storm::of(Manner::Signals, DEATHS);
    storm.begin();
    storm.process.wait(PATIENCE);
    let old = |number: usize| log.with_file_name(format!("events.ndjson.{number}"));
    let packed = |number: usize| log.with_file_name(format!("events.ndjson.{number}.zst"));
    until("four old files", PATIENCE, || (old(4).exists() || packed(4).exists()).then_some(()));
    until("one is compressed", PATIENCE, || (2..100).any(|number| packed(number).exists()).then_some(()));
    assert!(daemon.stop().success(), "{}", daemon.log());
    // What the end of the daemon left plain, the next one compresses with its first rotation.
    let mut texts = Vec::new();
    for number in (1..100).rev() {
        let (plain, packed) = (old(number), packed(number));
        assert!(!(plain.exists() && packed.exists()), "{number}: one event, one file");
        if packed.exists() {
            assert!(number > 1, "the newest stays plain for who still reads it");
            assert!(fs::metadata(&packed).expect("it is there").len() < 32 << 10);
            texts.push(unpacked(&packed));
        } else if plain.exists() {
            texts.push(fs::read_to_string(&plain).expect("UTF-8"));
        }
    }
    texts.push(fs::read_to_string(&log).expect("UTF-8"));
    let sequences: Vec<u64> = texts
        .concat()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["event"]["sequence"]
                .as_u64()
                .expect("a number")
        })
        .collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    assert!(sequences.len() as u64 > DEATHS, "{} events", sequences.len());
}

#[test]
fn a_file_of_some_age_is_rotated_with_the_next_event_and_a_reload_can_change_that() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let log = home.path("events.ndjson");
    let config =
        |age: &str| format!("[events]\noutput = [\"-\", {log:?}]\n{age}{}", home.supervising(&service));
    let mut daemon = Daemon::start_to_file(&config(""), &[]);
    service.until_healthy(&daemon);
    let old = log.with_file_name("events.ndjson.1");
    assert!(!old.exists());
    daemon.reload(&config("output_age = \"1m\"\n"));
    until("the reload", PATIENCE, || {
        let reload = daemon.events().into_iter().find(|event| event["event"]["action"] == "agent.reload");
        reload.filter(|event| event["reload"]["keys"].to_string().contains("events.output_age"))
    });
    // The file system says when the file was made, and that cannot be set: the wait is a real one.
    std::thread::sleep(Duration::from_secs(61));
    service.kill(&daemon);
    until("the old file", PATIENCE, || old.exists().then_some(()));
    assert!(fs::read_to_string(&old).expect("UTF-8").contains("agent.start"));
    assert!(daemon.stop().success(), "{}", daemon.log());
}
