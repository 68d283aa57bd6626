//! The daemon under test: the real binary, and what it says on its event stream.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::{
    parts::built,
    process::{Lines, Running},
    schema,
};

/// Longest wait for the daemon to watch, on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// Longest wait for a line of its log.
const SAID: Duration = Duration::from_secs(60);

/// A running daemon, ended when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Running,
    /// None for one that was started without.
    config: Option<NamedTempFile>,
    /// What the configuration said at the start.
    text: String,
    /// Holds its configuration, its control socket and its state.
    folder: Option<TempDir>,
}

/// A place in the event stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(usize);

impl Daemon {
    /// Starts `hostprobe run` with this configuration and these further arguments.
    ///
    /// # Panics
    /// If it is not built or cannot be started.
    pub fn start(config_toml: &str, args: &[&str]) -> Self {
        Self::start_with(config_toml, args, |command| command)
    }

    /// The same, with a say in the command, for its environment.
    ///
    /// # Panics
    /// If it is not built or cannot be started.
    pub fn start_with(
        config_toml: &str,
        args: &[&str],
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        Self::launch(&[], config_toml, &[&["--events", "-"], args].concat(), adjust)
    }

    /// Starts one that writes its events to where the configuration says, so that there is nothing to wait for here.
    ///
    /// # Panics
    /// If it is not built or cannot be started.
    pub fn start_to_file(config_toml: &str, args: &[&str]) -> Self {
        Self::launch(&[], config_toml, args, |command| command)
    }

    /// Has another command start it, such as `unshare` with its options. That one is killed in the end, and has to take
    /// the daemon along.
    ///
    /// # Panics
    /// If it is not built or cannot be started.
    pub fn start_under(under: &[&str], config_toml: &str, args: &[&str]) -> Self {
        Self::launch(under, config_toml, &[&["--events", "-"], args].concat(), |command| command)
    }

    fn launch(
        under: &[&str],
        config_toml: &str,
        args: &[&str],
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut config = tempfile::Builder::new();
        let mut config = config.suffix(".toml").tempfile_in(folder.path()).expect("a temporary file");
        config
            .write_all(completed(config_toml, folder.path()).as_bytes())
            .expect("the configuration is written");
        let mut command = match under.split_first() {
            None => Command::new(built("hostprobe")),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(built("hostprobe"));
                command
            }
        };
        command.arg("run").arg("--config").arg(config.path()).args(args);
        // Who starts another program need not hand a request to end on to it.
        let end = if under.is_empty() { Signal::TERM } else { Signal::KILL };
        let process = Running::start(adjust(&mut command), end);
        Self { process, config: Some(config), text: config_toml.to_owned(), folder: Some(folder) }
    }

    /// Starts `hostprobe run` without naming a configuration.
    ///
    /// # Panics
    /// If it is not built or cannot be started.
    pub fn start_without_configuration() -> Self {
        let process = Running::start(Command::new(built("hostprobe")).arg("run"), Signal::TERM);
        Self { process, config: None, text: String::new(), folder: None }
    }

    /// Waits until it watches, and returns its `agent.ready`.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn ready(&self) -> Value {
        self.wait_for(|event| event_action(event) == "agent.ready", READY)
    }

    /// The path of its control socket.
    ///
    /// # Panics
    /// If it was started without a configuration.
    pub fn socket(&self) -> PathBuf {
        self.folder.as_ref().expect("a folder").path().join("control.sock")
    }

    /// Its state directory.
    ///
    /// # Panics
    /// If it was started without a configuration.
    pub fn state(&self) -> PathBuf {
        self.folder.as_ref().expect("a folder").path().join("state")
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All events so far.
    ///
    /// # Panics
    /// If a line is not a JSON object.
    pub fn events(&self) -> Vec<Value> {
        parse(&self.process.stdout.all())
    }

    /// How many events so far are such.
    pub fn count(&self, such: impl Fn(&Value) -> bool) -> usize {
        self.events().iter().filter(|event| such(event)).count()
    }

    /// How many of a class, such as `output`, it says are lost. Of what the kernel reports about other processes, other tests
    /// may cause more than it takes.
    pub fn lost(&self, class: &str) -> u64 {
        let events = self.events();
        let losses = events.iter().filter(|event| event_action(event) == "stream.loss");
        let such = losses.filter(|event| field(event, "loss.class").is_some_and(|it| it == class));
        such.filter_map(|event| field(event, "loss.count")?.as_u64()).sum()
    }

    /// The present end of the stream.
    pub fn mark(&self) -> Mark {
        Mark(self.process.stdout.all().len())
    }

    /// The events after a mark.
    pub fn since(&self, mark: Mark) -> Vec<Value> {
        self.events().split_off(mark.0)
    }

    /// Waits for the first such event of the whole stream.
    ///
    /// # Panics
    /// If none comes in time or the daemon ends, with its last words.
    #[track_caller]
    pub fn wait_for(&self, such: impl Fn(&Value) -> bool, within: Duration) -> Value {
        self.wait_for_after(Mark(0), such, within)
    }

    /// Waits for the first such event after a mark.
    ///
    /// # Panics
    /// If none comes in time or the daemon ends, with its last words.
    #[track_caller]
    pub fn wait_for_after(&self, mark: Mark, such: impl Fn(&Value) -> bool, within: Duration) -> Value {
        match self.find_after(mark, such, within) {
            Some(event) => event,
            None => panic!("no such event within {within:?}; {}", self.last_words()),
        }
    }

    /// Waits for the first such event after a mark; None if none comes in time or the daemon ends.
    pub fn find_after(&self, mark: Mark, such: impl Fn(&Value) -> bool, within: Duration) -> Option<Value> {
        let mut skip = mark.0;
        self.process.stdout.wait_for(within, |lines| {
            let fresh = &lines[skip.min(lines.len())..];
            skip = skip.saturating_sub(lines.len());
            parse(fresh).into_iter().find(|event| such(event))
        })
    }

    /// Its event stream as lines, with when each was read.
    pub fn stream(&self) -> &Lines {
        &self.process.stdout
    }

    /// Waits for a line of its log that contains these words. The log is read beside the event stream: a line may come here
    /// after an event that was written later.
    ///
    /// # Panics
    /// If none comes in time or the daemon ends, with its last words.
    #[track_caller]
    pub fn wait_for_log(&self, words: &str) -> String {
        let such = |lines: &[String]| lines.iter().find(|line| line.contains(words)).cloned();
        match self.process.stderr.wait_for(SAID, such) {
            Some(line) => line,
            None => panic!("the log does not say {words:?} within {SAID:?}; {}", self.last_words()),
        }
    }

    /// What it wrote to its own log so far.
    pub fn log(&self) -> String {
        self.process.stderr.all().join("\n")
    }

    /// The lines of its event stream so far.
    pub fn lines(&self) -> Vec<String> {
        self.process.stdout.all()
    }

    /// Replaces its configuration file and asks it to read it again.
    ///
    /// # Panics
    /// If it has none, or the file cannot be written.
    pub fn reload(&self, config_toml: &str) {
        self.rewrite(config_toml);
        self.process.signal(Signal::HUP);
    }

    /// Replaces its configuration file, with the same places for its socket and state.
    ///
    /// # Panics
    /// If it has none, or the file cannot be written.
    pub fn rewrite(&self, config_toml: &str) {
        let config = self.config.as_ref().expect("a configuration file");
        let folder = config.path().parent().expect("its folder");
        std::fs::write(config.path(), completed(config_toml, folder)).expect("the configuration is written");
    }

    /// Writes a file of `conf.d` beside its configuration file.
    ///
    /// # Panics
    /// If it has none, or the file cannot be written.
    pub fn write_part(&self, name: &str, config_toml: &str) {
        let config = self.config.as_ref().expect("a configuration file");
        let parts = config.path().parent().expect("its folder").join("conf.d");
        std::fs::create_dir_all(&parts).expect("conf.d is made");
        std::fs::write(parts.join(name), config_toml).expect("the part is written");
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        self.process.wait(within)
    }

    fn last_words(&self) -> String {
        let events = self.process.stdout.all();
        let last = &events[events.len().saturating_sub(30)..];
        format!("{} events, the last ones:\n{}\nits log:\n{}", events.len(), last.join("\n"), self.log())
    }
}

impl Drop for Daemon {
    /// Every event of a daemon has to be as its schema says, and so has a configuration with which it ran.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.process.end();
            let events = self.process.stdout.all();
            schema::validate(&events);
            if events.iter().any(|event| event.contains("\"agent.ready\"")) {
                schema::validate_configuration(&self.text);
            }
            keep(&events);
        }
    }
}

/// Keeps a daemon's stream for the check of all streams together, if the environment names a folder for that.
fn keep(events: &[String]) {
    let Some(folder) = std::env::var_os("HOSTPROBE_STREAMS").filter(|_| !events.is_empty()) else { return };
    let file = tempfile::Builder::new().suffix(".ndjson").tempfile_in(folder).expect("the folder of streams");
    let (mut file, _) = file.keep().expect("the stream is kept");
    file.write_all((events.join("\n") + "\n").as_bytes()).expect("the stream is written");
}

/// An event's `event.action`, however deep its keys are nested; empty if it has none.
pub fn event_action(event: &Value) -> &str {
    field(event, "event.action").and_then(Value::as_str).unwrap_or_default()
}

/// A field by its dotted name, whether the event nests its objects or writes the dots.
pub fn field<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    let object = event.as_object()?;
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.filter_map(|at| field(object.get(&name[..at])?, &name[at + 1..])).next()
}

/// A configuration with what it leaves open: its own socket and state in this folder, and no check of the disks, as another
/// test may have filled one of its own.
fn completed(config_toml: &str, folder: &Path) -> String {
    let (socket, state) = (folder.join("control.sock"), folder.join("state"));
    let tables = [
        ("[control]", format!("socket = {socket:?}")),
        ("[state]", format!("directory = {state:?}")),
        ("[host]", "filesystems = false".to_owned()),
    ];
    let missing = tables.iter().filter(|(table, _)| !config_toml.contains(table));
    missing.fold(config_toml.to_owned(), |text, (table, key)| format!("{text}\n{table}\n{key}\n"))
}

fn parse(lines: &[String]) -> Vec<Value> {
    let event = |line: &String| {
        let event = serde_json::from_str::<Value>(line).ok().filter(Value::is_object);
        event.unwrap_or_else(|| panic!("the event stream has a line that is not a JSON object: {line}"))
    };
    lines.iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_nested_or_dotted() {
        let nested = json!({"event": {"action": "agent.ready"}, "process": {"parent.pid": 5}});
        let dotted = json!({"event.action": "agent.stop"});
        assert_eq!((event_action(&nested), event_action(&dotted)), ("agent.ready", "agent.stop"));
        assert_eq!(field(&nested, "process.parent.pid"), Some(&json!(5)));
        assert_eq!(field(&nested, "process.pid"), None);
    }
}
