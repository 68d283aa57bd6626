//! The output of a service under `exec` goes on in its file when another daemon takes the service over.

use std::{fs, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    leftovers::Leftovers,
    operator::{End, Home, crash, end},
    parts::require_root,
    process::{lives, until, with_argument},
    supervised::Supervised,
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const LEAVE: &str = "[supervisor]\non_exit = \"leave\"\n";

/// A service that writes numbered lines, and the arguments that tell its shell from others.
fn counting(home: &Home, service: &Supervised, keys: &str) -> String {
    let script = "i=0; while :; do echo line $i; i=$((i+1)); [ $((i%5)) = 0 ] && sleep 0.001; done";
    let run = service.service(&["/bin/sh", "-c", script, &mark(service)]);
    home.config(&format!("{LEAVE}{run}{keys}"))
}

fn mark(service: &Supervised) -> String {
    format!("{}.lines", service.name)
}

/// The lines of all files of a rotation, the oldest first. Of a file that a rotation moves meanwhile, there are none.
fn lines(service: &Supervised) -> Vec<String> {
    let file = |number: usize| match number {
        0 => service.folder().join("output"),
        older => service.folder().join(format!("output.{older}")),
    };
    let count = (0..).take_while(|number| file(*number).exists()).count();
    let text: String = (0..count).rev().map(|it| fs::read_to_string(file(it)).unwrap_or_default()).collect();
    text.lines().map(str::to_owned).collect()
}

fn output_goes_on(keys: &str, stamped: bool) {
    let (home, service) = (Home::new(), Supervised::new());
    let _leftovers = Leftovers(mark(&service));
    let config = counting(&home, &service, keys);
    let number = |line: &str| {
        let text = if stamped { line.split_once(' ')?.1 } else { line };
        text.strip_prefix("line ")?.parse::<u64>().ok()
    };
    let written = || lines(&service).iter().rev().find_map(|line| number(line)).unwrap_or(0);
    let mut pid = None;
    for _ in 0..4 {
        let daemon = Daemon::start(&config, &[]);
        let before = written();
        until("more lines", LONG, || (written() > before + 500).then_some(()));
        // For a moment, each child of the shell has its arguments too.
        let shell =
            *pid.get_or_insert_with(|| with_argument(&mark(&service)).into_iter().min().expect("it runs"));
        end(daemon, End::Clean);
        assert!(lives(shell), "it goes on");
        // Nothing is written meanwhile.
        let still = written();
        assert_eq!(written(), still);
    }
    let mut last = Daemon::start(&config.replace("leave", "stop"), &[]);
    let before = written();
    until("more lines", LONG, || (written() > before + 500).then_some(()));
    assert!(last.stop().success());
    let lines = lines(&service);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(number(line), Some(at as u64), "line {at} of {}: {line}", lines.len());
    }
    assert!(lines.len() > 2500, "{} lines", lines.len());
    assert_eq!(last.lost("output"), 0);
}

#[test]
fn stamped_output_goes_on_over_daemons_without_a_lost_or_torn_line() {
    if require_root() {
        output_goes_on("output_stamp = true\n", true);
    }
}

#[test]
fn rotated_output_goes_on_over_daemons_without_a_lost_or_torn_line() {
    if require_root() {
        output_goes_on("output_max = \"64KiB\"\noutput_keep = 1000\n", false);
    }
}

#[test]
fn a_service_that_writes_while_no_daemon_runs_neither_ends_nor_waits_until_its_pipe_is_full() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let _leftovers = Leftovers(mark(&service));
    let go = service.folder().join("go");
    // 600 KB at once, and then it says so.
    let script = format!(
        "while ! [ -e {go} ]; do sleep 0.05; done; seq 100000 199999; touch {go}.done; while :; do sleep 1; done",
        go = go.display()
    );
    let run = service.service(&["/bin/sh", "-c", &script, &mark(&service)]);
    let config = home.config(&format!("{LEAVE}{run}output_stamp = true\n"));
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    crash(daemon);
    fs::write(&go, "").expect("a file");
    until("all is written", LONG, || go.with_added_extension("done").exists().then_some(()));
    assert_eq!(service.output(), "");
    let mut daemon = Daemon::start(&config.replace("leave", "stop"), &[]);
    until("the last line", LONG, || service.output().ends_with(" 199999\n").then_some(()));
    assert_eq!(service.output().lines().count(), 100_000);
    assert!(daemon.stop().success());
}
