//! `hostprobe status --watch` in a terminal of tmux, which is asked what it shows.

use std::{
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::{operator::Home, parts::built};

/// Its program; without it there can be no view.
pub const TMUX: &str = "/usr/bin/tmux";

const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the terminal.
const LOOK: Duration = Duration::from_millis(50);

/// A terminal with the view in it.
#[derive(Debug)]
pub struct View {
    /// tmux's own socket.
    socket: PathBuf,
}

impl View {
    /// Opens one of so many columns and lines, with this environment for the view.
    ///
    /// # Panics
    /// If tmux does not start.
    #[track_caller]
    pub fn open(home: &Home, size: (u16, u16), environment: &str) -> Self {
        let socket = home.path("tmux.sock");
        let command = format!(
            "{environment} {} status --watch --socket {}; echo ended with $?; sleep 60",
            built("hostprobe").display(),
            home.path("control.sock").display()
        );
        let view = Self { socket };
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let opened =
            view.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &command]);
        assert!(opened.status.success(), "{opened:?}");
        view
    }

    /// Has tmux do something.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(TMUX);
        command.args(["-u", "-S"]).arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8");
        command.output().expect("tmux can be run")
    }

    /// # Panics
    /// If there is no terminal any more.
    #[track_caller]
    pub fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status.success());
    }

    /// What the terminal shows.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// Waits until all these words are shown.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn until_it_shows(&self, words: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown();
            if words.iter().all(|word| shown.contains(word)) {
                return shown;
            }
            assert!(Instant::now() < until, "{words:?} are not in\n{shown}");
            thread::sleep(LOOK);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
