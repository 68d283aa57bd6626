//! A program in C that hangs on demand, in a way of its choice (`hanging_program/hangs.c`).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{leftovers::Leftovers, parts::require, process::until};

/// Far more than it takes to begin.
const BEGINS: Duration = Duration::from_secs(60);

/// How the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Optimised and without frame pointers, as distributions compile. It has the names of its functions.
    Plain,
    /// Each function keeps its frame by the frame pointer, and there are no tables for unwinding.
    FramePointers,
    /// As plain, with lines.
    Debug,
    /// As plain, without the names of its functions.
    Stripped,
}

impl Form {
    pub const ALL: [Self; 4] = [Self::Plain, Self::FramePointers, Self::Debug, Self::Stripped];

    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["-O2", "-fomit-frame-pointer"],
            Self::FramePointers => {
                &["-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
            }
            Self::Debug => &["-O2", "-g", "-gno-column-info"],
            Self::Stripped => &["-O2", "-s"],
        }
    }
}

/// The compiled program, and the files that tell it to hang and to go on.
#[derive(Debug)]
pub struct HangingProgram {
    /// A daemon that is killed leaves the program to the next one.
    _leftovers: Leftovers,
    folder: TempDir,
    pub path: PathBuf,
}

impl HangingProgram {
    /// Compiles it; None if the test has to be skipped.
    ///
    /// # Panics
    /// If it cannot be compiled although there is a compiler.
    pub fn new(form: Form) -> Option<Self> {
        if !require("gcc", "/usr/bin/gcc") {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let (source, path) = (folder.path().join("hangs.c"), folder.path().join("hangs"));
        fs::write(&source, include_str!("hanging_program/hangs.c")).expect("the folder can be written");
        let output = Command::new("/usr/bin/gcc")
            .args(form.options())
            .args(["-pthread", "-fno-inline", "-o"])
            .args([&path, &source])
            .output()
            .expect("gcc can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let _leftovers = Leftovers(path.display().to_string());
        Some(Self { _leftovers, folder, path })
    }

    /// The command that serves this port and will hang in this way with so many threads.
    pub fn command(&self, port: u16, way: &str, threads: u32, arguments: &[&str]) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let mut command = vec![self.path.display().to_string(), port.to_string(), folder];
        command.extend([way.to_owned(), threads.to_string()]);
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets it hang from its next request on.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn hang(&self) {
        fs::write(self.folder.path().join("go"), "").expect("the folder can be written");
    }

    /// Lets it go on, if its way to hang can end.
    ///
    /// # Panics
    /// If the folder cannot be written, or the program does not run.
    pub fn go_on(&self) {
        fs::write(self.folder.path().join("end"), "").expect("the folder can be written");
        // The program has both ends of the FIFO open, once it has begun.
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let release = || options.open(self.folder.path().join("release"))?.write_all(b"x");
        until("the program runs", BEGINS, || release().ok());
    }
}
