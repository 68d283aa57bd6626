//! The scope of an OOM kill: a memory cgroup, the whole host, or a request by sysrq.
//!
//! No field holds the scope. But each scope reaches the OOM killer through another function, which the kernel stack
//! shows.

use std::{
    fs::{File, OpenOptions, remove_file},
    io::{self, BufRead, BufReader, Write as _},
    ops::Range,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use crate::fact::OomScope;

/// The functions that tell the scope. Every stack has `out_of_memory`, so the special ones come first.
const FUNCTIONS: [(&str, OomScope); 3] = [
    ("mem_cgroup_out_of_memory", OomScope::Memcg),
    ("moom_callback", OomScope::Sysrq),
    ("out_of_memory", OomScope::Global),
];

/// A copy of these functions' symbols, for a process from which the kernel hides its own.
pub const COPY: &str = "/run/hostprobe/kallsyms";

/// The address ranges of the functions in the running kernel.
pub struct Symbols {
    ranges: Vec<(Range<u64>, OomScope)>,
    unavailable: Option<String>,
}

impl Symbols {
    /// Reads a symbol table in the format of `/proc/kallsyms`. The daemon does so at start: during an OOM kill it
    /// should not read megabytes.
    pub fn read(path: &Path) -> Self {
        let unavailable = |reason: String| Self { ranges: Vec::new(), unavailable: Some(reason) };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return unavailable(format!("cannot open {}: {error}", path.display())),
        };
        match parse(BufReader::with_capacity(64 * 1024, file)) {
            Ok(ranges) if ranges.is_empty() => unavailable(format!(
                "{} hides the kernel's addresses (kptr_restrict, or CAP_SYSLOG is missing)",
                path.display()
            )),
            Ok(ranges) => Self { ranges, unavailable: None },
            Err(error) => unavailable(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// These symbols, or those of a copy if the kernel hides its own from this process.
    pub fn or_copy(self, copy: &Path) -> Self {
        match self.unavailable {
            None => self,
            Some(_) => Some(Self::read(copy)).filter(|copy| copy.unavailable.is_none()).unwrap_or(self),
        }
    }

    /// Writes a copy in the same format, with the ranges of these functions only. It is a new file that only its owner
    /// may read.
    pub fn write_to(&self, copy: &Path) -> io::Result<()> {
        if let Some(reason) = &self.unavailable {
            return Err(io::Error::other(reason.clone()));
        }
        match remove_file(copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut text = String::new();
        for (range, scope) in &self.ranges {
            let name = FUNCTIONS.iter().find(|it| it.1 == *scope).map_or("", |it| it.0);
            text.push_str(&format!("{:016x} T {name}\n{:016x} T end\n", range.start, range.end));
        }
        // `create_new` follows no link and does not open a file that another process made meanwhile.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
        file?.write_all(text.as_bytes())
    }

    /// Why the scope is not known, if so.
    pub fn unavailable(&self) -> Option<&str> {
        self.unavailable.as_deref()
    }

    pub fn oom_scope(&self, stack: &[u64]) -> OomScope {
        for (_, scope) in FUNCTIONS {
            let mut of_scope = self.ranges.iter().filter(|it| it.1 == scope);
            if of_scope.any(|it| stack.iter().any(|frame| it.0.contains(frame))) {
                return scope;
            }
        }
        OomScope::Unknown
    }
}

/// A symbol table that a thread is reading.
pub struct Reading {
    path: PathBuf,
    /// None if the thread could not be started.
    thread: Option<JoinHandle<Symbols>>,
}

impl Reading {
    pub fn start(path: PathBuf) -> Self {
        let table = path.clone();
        let thread = thread::Builder::new().name("kallsyms".to_owned()).spawn(move || Symbols::read(&table));
        Self { path, thread: thread.ok() }
    }

    pub fn finish(self) -> Symbols {
        let read = self.thread.and_then(|thread| thread.join().ok());
        read.unwrap_or_else(|| Symbols::read(&self.path))
    }
}

/// Finds the functions. Each ends at the next higher address in the file, which need not be on the next line.
fn parse(mut table: impl BufRead) -> io::Result<Vec<(Range<u64>, OomScope)>> {
    let mut addresses = Vec::new();
    let mut found = Vec::new();
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? != 0 {
        if let Some((address, name)) = symbol(&line)
            && address != 0
        {
            addresses.push(address);
            // Compilers split and clone functions: `out_of_memory.cold`, `out_of_memory.isra.0`.
            let base = name.split(|it| *it == b'.').next().unwrap_or(name);
            if let Some((_, scope)) = FUNCTIONS.iter().find(|it| it.0.as_bytes() == base) {
                found.push((address, *scope));
            }
        }
        line.clear();
    }
    let end = |start: u64| addresses.iter().copied().filter(|it| *it > start).min().unwrap_or(u64::MAX);
    Ok(found.into_iter().map(|(start, scope)| (start..end(start), scope)).collect())
}

/// Address and name from a function's line: `ffffffff81000000 T name [module]`.
fn symbol(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = line.trim_ascii_end().split(|it| it.is_ascii_whitespace());
    let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    matches!(words.next()?, b"t" | b"T" | b"w" | b"W").then_some(())?;
    Some((address, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff81000000 T _stext
ffffffff81001000 t oom_kill_process
ffffffff81002000 T out_of_memory
ffffffff81002800 d some_data
ffffffff81003000 t mem_cgroup_out_of_memory.isra.0
ffffffff81004000 t moom_callback
ffffffff81005000 T whatever\t[module]
garbage
";

    fn symbols(table: &str) -> Symbols {
        Symbols { ranges: parse(table.as_bytes()).unwrap(), unavailable: None }
    }

    #[test]
    fn a_special_function_wins_over_the_common_one() {
        let symbols = symbols(TABLE);
        let common = 0xffff_ffff_8100_2010;
        assert_eq!(symbols.oom_scope(&[common]), OomScope::Global);
        assert_eq!(
            symbols.oom_scope(&[0xffff_ffff_8100_1004, common, 0xffff_ffff_8100_3abc]),
            OomScope::Memcg
        );
        assert_eq!(symbols.oom_scope(&[common, 0xffff_ffff_8100_4001]), OomScope::Sysrq);
    }

    #[test]
    fn a_function_ends_where_the_next_one_starts() {
        let symbols = symbols(TABLE);
        assert_eq!(symbols.oom_scope(&[0xffff_ffff_8100_2fff]), OomScope::Global);
        assert_eq!(symbols.oom_scope(&[0xffff_ffff_8100_5000, 0]), OomScope::Unknown);
        assert_eq!(symbols.oom_scope(&[]), OomScope::Unknown);
    }

    #[test]
    fn hidden_addresses_and_a_missing_file_have_different_reasons() {
        let hidden: String =
            TABLE.lines().map(|it| format!("{:016}{}\n", 0, it.get(16..).unwrap_or(""))).collect();
        assert_eq!(parse(hidden.as_bytes()).unwrap(), []);
        assert!(Symbols::read(Path::new("/nonexistent")).unavailable().unwrap().contains("/nonexistent"));
        assert!(Symbols::read(Path::new("/dev/null")).unavailable().unwrap().contains("kptr_restrict"));
    }

    #[test]
    fn a_copy_has_the_same_symbols_and_serves_where_the_kernel_hides_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (table, copy) = (folder.path().join("kallsyms"), folder.path().join("copy"));
        std::fs::write(&table, TABLE).unwrap();
        let symbols = Symbols::read(&table);
        // A link at the path is replaced; its target stays as it is.
        std::os::unix::fs::symlink(&table, &copy).unwrap();
        symbols.write_to(&copy).unwrap();
        assert_eq!(std::fs::read_to_string(&table).unwrap(), TABLE);
        let hidden = || Symbols::read(Path::new("/dev/null"));
        let copied = hidden().or_copy(&copy);
        assert_eq!(copied.ranges, symbols.ranges);
        assert_eq!(copied.unavailable(), None);

        assert!(hidden().or_copy(Path::new("/nonexistent")).unavailable().unwrap().contains("kptr_restrict"));
        assert!(hidden().write_to(&copy).unwrap_err().to_string().contains("kptr_restrict"));
    }
}
