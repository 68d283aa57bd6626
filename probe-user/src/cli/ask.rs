//! Asks a running daemon over its control socket.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::{Config, ConfigErrors, DEFAULT_CONTROL, EventOutput},
    serve::control::{Answer, Refusal, RefusalKind, Request, Streamed},
};

use super::{
    argument::DEFAULT_CONFIG,
    output::{BAD_CONFIG, NOT_POSSIBLE, complain},
    waiting::Waiting,
};

/// The longest wait for the daemon's answer, and for that to a command: the service has to stop and to start.
const PATIENCE: Duration = Duration::from_secs(10);
const COMMAND_PATIENCE: Duration = Duration::from_secs(40);

/// The same for a drill, which the daemon bounds.
const DRILL_PATIENCE: Duration = Duration::from_secs(900);

/// The same for test messages: a mail server has half a minute for each of two.
const TEST_PATIENCE: Duration = Duration::from_secs(90);

/// The longest answer, in bytes. Some hundred incidents take less than one MiB.
const MAX_ANSWER: u64 = 16 << 20;

/// The daemon to ask.
#[derive(Clone, Debug, ClapArgs)]
pub struct Daemon {
    /// The daemon's control socket [default: the configuration's, else /run/hostprobe/control.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon's configuration file, which names the socket [default: /etc/hostprobe/hostprobe.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

/// The reason that there is no answer, in a sentence, and its exit status.
#[derive(Debug)]
pub struct Failure {
    message: String,
    status: u8,
    /// No daemon runs, as far as its socket shows.
    is_down: bool,
    /// The daemon has said nothing.
    is_unanswered: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// A failure that ends with this status.
    pub fn new(message: impl Into<String>, status: u8) -> Self {
        Self { message: message.into(), status, is_down: false, is_unanswered: false }
    }

    /// Whether no daemon runs, as far as its socket shows.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    pub fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }

    /// Prints the reason, and returns the exit status.
    pub fn end(self) -> ExitCode {
        complain(format_args!("hostprobe: {}", self.message));
        ExitCode::from(self.status)
    }
}

impl Daemon {
    /// The daemon of this host, at its usual place.
    pub fn usual() -> Self {
        Self { socket: None, config: None }
    }

    /// The same as [`Self::ask`]. A person at a terminal sees what the command waits for.
    pub fn ask_aloud(&self, request: &Request, what: impl Into<String>) -> Result<Answer, Failure> {
        let _waiting = Waiting::begin(what);
        self.ask(request)
    }

    /// Sends one question and reads the answer.
    pub fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let path = self.path()?;
        let answer = converse(&path, request).map_err(|error| unanswered(&path, &error))?;
        match answer {
            Answer::Error(refusal) => Err(refused(refusal)),
            answer @ (Answer::Status(_)
            | Answer::Incidents(_)
            | Answer::Explanation(_)
            | Answer::Report(_)
            | Answer::Reload(_)
            | Answer::DrillPlan(_)
            | Answer::Drill(_)
            | Answer::AlertTest(_)
            | Answer::Done(_)) => Ok(answer),
        }
    }

    /// Watches the events after the one with this id, or from now on.
    pub fn watch(&self, after: Option<String>) -> Result<Events, Failure> {
        let path = self.path()?;
        let open = || -> io::Result<UnixStream> {
            let mut stream = UnixStream::connect(&path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut line = serde_json::to_vec(&Request::Events { after })?;
            line.push(b'\n');
            stream.write_all(&line)?;
            Ok(stream)
        };
        let stream = open().map_err(|error| unanswered(&path, &error))?;
        Ok(Events { path, lines: BufReader::new(stream) })
    }

    /// Where the daemon writes its events.
    pub fn outputs(&self) -> Result<Vec<EventOutput>, Failure> {
        Ok(self.configuration()?.events)
    }

    /// The state directory of the daemon that does not run; None if only its socket is named.
    pub fn state_directory(&self) -> Result<Option<PathBuf>, Failure> {
        if self.socket.is_some() {
            return Ok(None);
        }
        Ok(Some(self.configuration()?.state.directory))
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let off = || {
            Failure::new(
                "the configuration turns the control socket off: control.socket is \"\"",
                NOT_POSSIBLE,
            )
        };
        self.configuration()?.control.ok_or_else(off)
    }

    fn configuration(&self) -> Result<Config, Failure> {
        Ok(match &self.config {
            Some(file) => {
                let in_words = |errors: ConfigErrors| {
                    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                };
                Config::load(file).map_err(|errors| Failure::new(in_words(errors), BAD_CONFIG))?
            }
            // A file that is unreadable for this user, or broken by now, does not prevent a question to the usual
            // socket.
            None => Config::load(Path::new(DEFAULT_CONFIG)).unwrap_or_default(),
        })
    }
}

/// The events of a daemon as they come.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    lines: BufReader<UnixStream>,
}

impl Events {
    /// Waits for the next one. None at the end of the daemon.
    pub fn next(&mut self) -> Result<Option<Streamed>, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(MAX_ANSWER).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(unanswered(&self.path, &error)),
        }
        if let Ok(streamed) = serde_json::from_slice(&line) {
            return Ok(Some(streamed));
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Error(refusal)) => Err(refused(refusal)),
            _ => Err(another_question()),
        }
    }
}

fn unanswered(path: &Path, error: &io::Error) -> Failure {
    Failure {
        is_down: matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused),
        is_unanswered: true,
        ..Failure::new(no_answer(path, error), NOT_POSSIBLE)
    }
}

fn refused(refusal: Refusal) -> Failure {
    let status = match refusal.kind {
        RefusalKind::NotFound | RefusalKind::Failed => 1,
        RefusalKind::BadRequest => BAD_CONFIG,
        RefusalKind::NotPermitted | RefusalKind::Stopping => NOT_POSSIBLE,
    };
    Failure::new(refusal.message, status)
}

fn converse(path: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    let patience = match request {
        Request::Operate(_) => COMMAND_PATIENCE,
        Request::Drill { agreed: Some(_), .. } => DRILL_PATIENCE,
        Request::AlertTest { .. } => TEST_PATIENCE,
        // Its answer is a stream.
        Request::Events { .. }
        | Request::Drill { .. }
        | Request::Status
        | Request::Beat { .. }
        | Request::Incidents { .. }
        | Request::Report { .. }
        | Request::Explain { .. }
        | Request::Reload { .. } => PATIENCE,
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A daemon that refuses this user may have closed the connection already; its answer has the reason.
    let written = stream.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        written?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn no_answer(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    let named = if path == Path::new(DEFAULT_CONTROL) { "" } else { " there" };
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no daemon answers at {shown}: start `hostprobe run`, or name its socket with --socket")
        }
        io::ErrorKind::ConnectionRefused => {
            format!(
                "the daemon that made {shown} is gone: start `hostprobe run`, or name another with --socket"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{shown} may only be used by root, the daemon's own user and the group of [control]")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the daemon at {shown} does not answer in time")
        }
        io::ErrorKind::UnexpectedEof => format!("the daemon{named} hung up without an answer"),
        io::ErrorKind::InvalidData => format!("{shown} gives no answer of this version's: {error}"),
        _ => format!("{shown} cannot be asked: {error}"),
    }
}

/// The answer belongs to another question.
pub fn another_question() -> Failure {
    Failure::new("the daemon answered another question: it is of another version", NOT_POSSIBLE)
}

/// As [`another_question`], at the end of a command.
pub fn unexpected() -> ExitCode {
    another_question().end()
}
