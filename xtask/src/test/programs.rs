//! The test programs that cargo builds, and which of them run at the same time.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{announce, command};

/// Tests that run at a time, those of all programs together. Most tests wait: for a server, for a probe, until a time is over.
const SLOTS: usize = 6;

/// Programs that run alone: the daemons of other tests would feel what they do to the host, they use all processors, or
/// they measure times.
const ALONE: [&str; 15] = [
    "capacity",
    "chaos",
    "demo",
    "host",
    "host_hooks",
    "hostile_surroundings",
    "hostprobe",
    "identity",
    "loss",
    "own_trouble",
    "recovery",
    "sockets",
    "stuck",
    "systemd_host_checks",
    "unit_matrix",
];

/// Programs that run for minutes, the longest first: they start first, so that no processor waits for them at the end. With
/// how many of their tests run at a time; it is one for all others.
const LONG: [(&str, usize); 20] = [
    ("packages", 1),
    ("fault_matrix", 3),
    ("host_clock", 1),
    ("fleet", 2),
    ("alert_storms", 2),
    ("paused", 2),
    ("growth", 2),
    ("fleet_faults", 2),
    ("escalations", 2),
    ("dashboard", 2),
    ("not_at_fault", 2),
    ("host_limits", 3),
    ("recipes", 1),
    ("probes_over_tls", 1),
    ("poolers", 1),
    ("hang_stacks", 1),
    ("event_files", 1),
    ("handovers", 1),
    ("successors", 1),
    ("tcp_forwards", 1),
];

pub struct Program {
    pub name: String,
    /// Its source, such as `tests/reload.rs`.
    source: String,
    path: PathBuf,
    /// Where cargo runs it.
    folder: PathBuf,
}

impl Program {
    fn is_alone(&self) -> bool {
        ALONE.contains(&self.name.as_str())
    }

    /// How many of the slots it needs, which is how many of its tests run at a time unless it runs alone.
    fn slots(&self) -> usize {
        let long = LONG.iter().find(|(name, _)| *name == self.name);
        if self.is_alone() { SLOTS } else { long.map_or(1, |(_, tests)| *tests) }
    }

    /// Its place in the order.
    fn order(&self) -> (bool, usize) {
        let long = LONG.iter().position(|(name, _)| *name == self.name).unwrap_or(LONG.len());
        (self.is_alone(), long)
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        if !self.is_alone() {
            command.env("RUST_TEST_THREADS", self.slots().to_string());
        }
        command
    }
}

/// Builds the test programs that `cargo test` would run with these arguments.
pub fn build(of_cargo: &[String]) -> Result<Vec<Program>> {
    let mut build = command(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    build.args(of_cargo);
    announce(&build);
    let output = build.stderr(Stdio::inherit()).output().context("cannot run cargo test")?;
    ensure!(output.status.success(), "the tests could not be built");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs: Vec<Program> = messages.lines().filter_map(program).collect();
    programs.sort_by_key(Program::order);
    Ok(programs)
}

/// The test program that one of cargo's messages tells of.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message.pointer("/profile/test")?.as_bool()?;
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let folder = PathBuf::from(text("/manifest_path")?).parent()?.to_owned();
    let source = PathBuf::from(text("/target/src_path")?);
    let program = Program {
        name: text("/target/name")?.to_owned(),
        source: source.strip_prefix(&folder).unwrap_or(&source).display().to_string(),
        path: text("/executable")?.into(),
        folder,
    };
    is_test.then_some(program)
}

/// Runs programs, as many at a time as there is room for, and shows what each of them has printed once it has ended. True if
/// all of them succeeded.
pub fn run(
    mut programs: Vec<Program>,
    arguments: &[String],
    with: impl Fn(&mut Command) + Sync,
    mut show: impl FnMut(&Output),
) -> Result<bool> {
    let mut passed = true;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let mut free = SLOTS;
        let mut ended = 0;
        let count = programs.len();
        while ended < count {
            while let Some(fits) = programs.iter().position(|it| it.slots() <= free) {
                let program = programs.remove(fits);
                free -= program.slots();
                let (sender, with) = (sender.clone(), &with);
                scope.spawn(move || {
                    let mut command = program.command(arguments);
                    with(&mut command);
                    let output = command.stderr(Stdio::inherit()).output();
                    // Nobody receives it once another one could not be started.
                    sender.send((program, output)).ok();
                });
            }
            let (program, output) = receiver.recv().context("no program runs")?;
            let output = output.with_context(|| format!("cannot run {}", program.path.display()))?;
            free += program.slots();
            ended += 1;
            println!("\n{} ({ended} of {count})", program.source);
            show(&output);
            if !output.status.success() {
                println!("{} failed ({})", program.source, output.status);
                passed = false;
            }
        }
        Ok(passed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, is_test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/w/Cargo.toml","target":{{"name":"{name}",
            "src_path":"/w/tests/{name}.rs"}},"profile":{{"test":{is_test}}},"executable":"/w/target/{name}"}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn only_test_programs_run() {
        let found = program(&message("reload", true)).expect("a test program");
        assert_eq!((found.name.as_str(), found.source.as_str()), ("reload", "tests/reload.rs"));
        assert_eq!(found.folder, PathBuf::from("/w"));
        assert!(program(&message("victim", false)).is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(program("not JSON").is_none());
    }

    #[test]
    fn long_ones_start_first_and_those_that_run_alone_last() {
        let mut names = ["host", "reload", "fault_matrix", "adoption", "dashboard"];
        names.sort_by_key(|name| program(&message(name, true)).map(|it| it.order()));
        assert_eq!(names, ["fault_matrix", "dashboard", "reload", "adoption", "host"]);
    }

    #[test]
    fn all_run_and_one_that_fails_is_told() {
        let of =
            |path: &str| Program { path: path.into(), ..program(&message("reload", true)).expect("one") };
        let one = |path| {
            let program = Program { folder: "/".into(), ..of(path) };
            let mut shown = 0;
            let passed = run(vec![program], &[], |_| {}, |_| shown += 1);
            (passed.ok(), shown)
        };
        assert_eq!(one("/bin/true"), (Some(true), 1));
        assert_eq!(one("/bin/false"), (Some(false), 1));
        assert_eq!(one("/nonexistent"), (None, 0));
    }
}
