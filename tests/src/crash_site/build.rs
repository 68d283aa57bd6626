//! Builds the programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/crash_programs");

/// A folder for programs, which every user may enter.
#[derive(Debug)]
pub struct Programs {
    folder: TempDir,
    /// Separate debug information, which is removed in the end.
    debug_files: Vec<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Self::new()
    }
}

impl Programs {
    /// # Panics
    /// If no folder can be made.
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder"), debug_files: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds `crash.c` and its library in a folder of this name, both with these flags, and returns the program's path.
    ///
    /// # Panics
    /// If the compiler fails.
    pub fn c(&self, name: &str, flags: &[&str]) -> String {
        let folder = self.path(name);
        fs::create_dir(&folder).expect("a new folder");
        let (library, program) = (folder.join("libfoo.so.1"), folder.join("crash"));
        let shared: Vec<_> = flags.iter().filter(|it| !it.ends_with("-pie")).collect();
        run(Command::new("/usr/bin/gcc")
            .args(&shared)
            .args(["-shared", "-fPIC", "-Wl,-soname,libfoo.so.1", "-o"])
            .arg(&library)
            .arg(source("foo.c")));
        run(Command::new("/usr/bin/gcc")
            .args(flags)
            .arg("-o")
            .arg(&program)
            .args([source("crash.c"), library])
            .arg(format!("-Wl,-rpath,{}", folder.display())));
        program.display().to_string()
    }

    /// Builds a program from one file: `crash.cc`, `crash.rs` or `crash.go`.
    ///
    /// # Panics
    /// If the compiler fails.
    pub fn single(&self, name: &str, compiler: &str, arguments: &[&str], file: &str) -> String {
        let program = self.path(name);
        run(Command::new(compiler)
            .args(arguments)
            .arg("-o")
            .arg(&program)
            .arg(source(file))
            .env("GOCACHE", self.path("go-cache"))
            .env("GOFLAGS", "-trimpath")
            .env("CGO_ENABLED", "0"));
        program.display().to_string()
    }

    /// Removes symbols and debug information from a program, and from `libfoo.so.1` beside it.
    ///
    /// # Panics
    /// If that fails.
    pub fn strip(&self, program: &str) {
        let library = Path::new(program).with_file_name("libfoo.so.1");
        run(Command::new("/usr/bin/strip").arg(program).arg(library));
    }

    /// Moves the debug information of a library to where debuggers look for it by its build id, and strips the library.
    ///
    /// # Panics
    /// If that fails.
    pub fn separate_debug_information(&mut self, program: &str) {
        let library = Path::new(program).with_file_name("libfoo.so.1");
        let notes = Command::new("/usr/bin/readelf").arg("-n").arg(&library).output().expect("readelf runs");
        let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
        let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("a build id");
        let (first, rest) = id.split_at(2);
        let folder = Path::new("/usr/lib/debug/.build-id").join(first);
        fs::create_dir_all(&folder).expect("root may write there");
        let debug = folder.join(format!("{rest}.debug"));
        run(Command::new("/usr/bin/objcopy")
            .args(["--only-keep-debug", "--compress-debug-sections"])
            .arg(&library)
            .arg(&debug));
        self.debug_files.push(debug);
        run(Command::new("/usr/bin/strip").arg(library));
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for file in &self.debug_files {
            let _ = fs::remove_file(file);
            // The folder goes if it is empty.
            let _ = file.parent().map(fs::remove_dir);
        }
    }
}

/// The path of a source file.
pub fn source(file: &str) -> PathBuf {
    Path::new(SOURCES).join(file)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
