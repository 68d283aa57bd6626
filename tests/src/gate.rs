//! A gate that a command waits at until the test opens it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A gate in a folder, open at first; one command at a time may wait at it.
#[derive(Debug)]
pub struct Gate {
    closed: PathBuf,
    pipe_path: PathBuf,
    /// Held open for reading too, so that what is written waits for its reader.
    pipe: File,
}

impl Gate {
    /// Makes one.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(folder: &Path) -> Self {
        let (closed, pipe_path) = (folder.join("gate-is-closed"), folder.join("gate"));
        let made = Command::new("/usr/bin/mkfifo").arg(&pipe_path).status();
        assert!(made.is_ok_and(|made| made.success()), "a pipe is made");
        let pipe = OpenOptions::new().read(true).write(true).open(&pipe_path).expect("a pipe can be opened");
        Self { closed, pipe_path, pipe }
    }

    /// What a shell waits at the gate with.
    pub fn script(&self) -> String {
        format!("[ ! -e {} ] || read line < {}", self.closed.display(), self.pipe_path.display())
    }

    /// Closes it for whoever comes from now on.
    ///
    /// # Panics
    /// If the folder is gone.
    pub fn close(&self) {
        fs::write(&self.closed, "").expect("a file is written");
    }

    /// Lets through who waits, and whoever comes.
    ///
    /// # Panics
    /// If it is not closed.
    pub fn open(&mut self) {
        fs::remove_file(&self.closed).expect("it is closed");
        self.pipe.write_all(b"\n").expect("a pipe can be written");
    }
}
