//! A line for a person at a terminal who waits for a command.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hostprobe::escape::escaped;

/// A wait that is shorter than this needs no explanation.
const SILENT: Duration = Duration::from_secs(2);

/// Between two counts of the seconds.
const EVERY: Duration = Duration::from_secs(1);

/// A wait under way: what it is for and how long it has lasted is on standard error, if that is a terminal, until this is
/// dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Begins to wait for this.
    pub(super) fn begin(what: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self { end: None, thread: None };
        }
        let (end, ended) = mpsc::channel();
        let what = escaped(&what.into()).into_owned();
        // Without a thread left, the command still does its work.
        let show = move || show(&mut io::stderr(), &what, &ended, SILENT, EVERY);
        let thread = thread::Builder::new().name("waiting".to_owned()).spawn(show).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Rewrites one line until the wait is over, and then erases it.
fn show(terminal: &mut impl Write, what: &str, ended: &Receiver<()>, silent: Duration, every: Duration) {
    let begun = Instant::now();
    let mut pause = silent;
    let mut width = 0;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
        let line = format!("waiting for {what}: {} s", begun.elapsed().as_secs());
        width = line.chars().count();
        // A terminal that is gone is no reason to stop.
        let _ = write!(terminal, "\r{line}").and_then(|()| terminal.flush());
        pause = every;
    }
    if width > 0 {
        let _ = write!(terminal, "\r{:width$}\r", "").and_then(|()| terminal.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_counted_and_its_line_is_erased() {
        let (end, ended) = mpsc::channel();
        let (mut sink, short) = (Ends(Vec::new(), Some(end)), Duration::from_millis(1));
        show(&mut sink, "web to stop", &ended, short, short);
        let blank = format!("\r{:width$}\r", "", width = "waiting for web to stop: 0 s".len());
        assert_eq!(String::from_utf8(sink.0).unwrap(), format!("\rwaiting for web to stop: 0 s{blank}"));
    }

    #[test]
    fn a_short_wait_shows_nothing() {
        let (end, ended) = mpsc::channel::<()>();
        drop(end);
        let mut shown = Vec::new();
        show(&mut shown, "it", &ended, Duration::from_secs(60), Duration::from_secs(60));
        assert!(shown.is_empty());
    }

    /// Ends the wait once something is shown.
    struct Ends(Vec<u8>, Option<Sender<()>>);

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1 = None;
            Ok(())
        }
    }
}
