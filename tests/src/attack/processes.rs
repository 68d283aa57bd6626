//! Processes of other users: their number, their deaths, their names and their sockets.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::plan::{Held, LONG, Plan, Repeated};
use crate::{
    cgroup,
    parts::built,
    process::Running,
    program::NOBODY,
    storm::{Manner, Storm},
};

/// Processes that hold connections, and how many each. Both ends are theirs, and a process may often have 20,000
/// descriptors.
const HOLDERS: u32 = 4;
const HELD: u32 = 8750;

/// Clears the screen, rings, begins a line, and writes from right to left.
const NAME: &str = "\u{1b}[2J\u{7}\r\n\u{202e}k";

/// The longest that the kernel takes as one argument is 128 KiB, and as all of them a quarter of the stack.
const ARGUMENT: usize = 120 << 10;
const ARGUMENTS: usize = 15;

/// The kernel's log is everybody's, and keeps what came last.
const LOG_PAUSE: Duration = Duration::from_millis(1);

pub(super) fn connections() -> Result<Held> {
    let mut held = Held::new();
    for _ in 0..HOLDERS {
        let mut command = Command::new(built("connects"));
        let process = Running::start(command.args(["held", &HELD.to_string()]), Signal::KILL);
        process.wait_until_it_says("ready", &process.stdout, LONG);
        process.signal(Signal::USR1);
        held.push(Box::new(process));
    }
    for process in held.iter().filter_map(|held| held.downcast_ref::<Running>()) {
        process.wait_until_it_says("made ", &process.stdout, LONG);
        let made = format!("made {HELD}");
        ensure!(process.stdout.all().contains(&made), "{:?}, not {made}", process.stdout.all());
    }
    Ok(held)
}

pub(super) fn listeners() -> Held {
    let listening = Repeated::start(|| drop(TcpListener::bind("127.0.0.1:0")));
    let refused = Repeated::start(|| drop(TcpStream::connect("127.0.0.1:1")));
    vec![Box::new(listening), Box::new(refused)]
}

fn endless(manner: Manner) -> Box<Storm> {
    let storm = Storm::endless(manner);
    storm.begin();
    Box::new(storm)
}

pub(super) fn forks() -> Held {
    vec![endless(Manner::Exit), endless(Manner::Exec)]
}

pub(super) fn deaths(folder: &Path) -> Result<Plan> {
    // Another thread's child could inherit a file that this process writes, and keep it from being executed.
    let copy = folder.join(NAME);
    let copied = Command::new("/bin/cp").arg(built("storm")).arg(&copy).status()?;
    ensure!(copied.success(), "the program cannot be copied");
    Ok(Plan::begin(move |_| {
        let storm = Storm::endless_under(&copy, Manner::Signals);
        storm.begin();
        Ok(vec![Box::new(storm)])
    }))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).uid(NOBODY).gid(NOBODY)
}

pub(super) fn command_lines() -> Held {
    let long = format!("--password={}", "\u{1b}[2J\u{202e} x".repeat(ARGUMENT / 9));
    let dying = Repeated::start(move || {
        let arguments = (0..ARGUMENTS).map(|_| &long);
        let mut shell = Command::new("/bin/sh");
        let _ = quiet(shell.args(["-c", "kill -KILL $$"]).args(arguments).env("LONG", &long)).status();
    });
    let script = r#"while (1) { $0 = "\e[2J\n" . rand() x 2000 }"#;
    let mut perl = Command::new("/usr/bin/perl");
    let changing = Running::start(quiet(perl.args(["-e", script])), Signal::KILL);
    vec![Box::new(dying), Box::new(changing)]
}

pub(super) fn cgroups() -> Held {
    let mounts = cgroup::telling();
    let mut number = 0_u64;
    vec![Box::new(Repeated::start(move || {
        number += 1;
        for mount in &mounts {
            // The kernel refuses the end of a line in a name.
            let folder = mount.join(format!("hostile-{number}\u{1b}[2J\u{7}\r\u{202e}.service"));
            if fs::create_dir(&folder).is_ok() {
                let _ = fs::remove_dir(&folder);
            }
        }
    }))]
}

pub(super) fn kernel_log() -> Plan {
    let flood = |_: &crate::daemon::Daemon| -> Result<Held> {
        let line = format!("<3>hostprobe test: Out of memory: Killed process 1 ({NAME}) {}", "x".repeat(800));
        Ok(vec![Box::new(Repeated::start(move || {
            // Each opening may write a few lines at once.
            if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
                let _ = log.write_all(line.replace('\n', " ").as_bytes());
            }
            std::thread::sleep(LOG_PAUSE);
        }))])
    };
    Plan { arguments: vec!["--without-hook", "mark_victim"], ..Plan::begin(flood) }
}
