//! A latch at which a command waits until the test opens it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A latch in a folder, open at first. One command at a time can wait at it.
#[derive(Debug)]
pub struct Latch {
    closed: PathBuf,
    pipe_path: PathBuf,
    /// Held open for reading too, so that what is written waits for its reader.
    pipe: File,
}

impl Latch {
    /// # Panics
    /// If it cannot be made.
    pub fn new(folder: &Path) -> Self {
        let (closed, pipe_path) = (folder.join("latch-is-closed"), folder.join("latch"));
        let made = Command::new("/usr/bin/mkfifo").arg(&pipe_path).status();
        assert!(made.is_ok_and(|made| made.success()), "a pipe is made");
        let pipe = OpenOptions::new().read(true).write(true).open(&pipe_path).expect("a pipe can be opened");
        Self { closed, pipe_path, pipe }
    }

    /// The shell code that waits at the latch.
    pub fn script(&self) -> String {
        format!("[ ! -e {} ] || read line < {}", self.closed.display(), self.pipe_path.display())
    }

    /// Closes it: commands that start from now on wait.
    ///
    /// # Panics
    /// If the folder is gone.
    pub fn close(&self) {
        fs::write(&self.closed, "").expect("a file is written");
    }

    /// Opens it: the waiting command goes on, and later ones do not wait.
    ///
    /// # Panics
    /// If it is not closed.
    pub fn open(&mut self) {
        fs::remove_file(&self.closed).expect("it is closed");
        self.pipe.write_all(b"\n").expect("a pipe can be written");
    }
}
