//! The program where every user may run it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::parts::built;

/// The user and group `nobody`, on every distribution.
pub const NOBODY: u32 = 65534;

/// A folder that every user may enter, with a copy of the program in it.
#[derive(Debug)]
pub struct ProgramCopy {
    pub folder: TempDir,
    program: PathBuf,
}

impl Default for ProgramCopy {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgramCopy {
    /// Copies the program.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let program = folder.path().join("hostprobe");
        // Another test's child could inherit a file that this process writes, and keep it from being executed.
        let copied = Command::new("/bin/cp").arg(built("hostprobe")).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "the program is copied");
        Self { folder, program }
    }

    /// Writes a file into the folder.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, content).expect("the file is written");
        file
    }

    /// The program with a command, such as `doctor`.
    pub fn program(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb);
        command
    }

    /// The command `check` or `run` with a configuration.
    pub fn command(&self, verb: &str, config: &Path) -> Command {
        let mut command = self.program(verb);
        command.arg("--config").arg(config);
        command
    }
}
