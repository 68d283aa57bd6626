//! The scope of an OOM kill: a memory cgroup, the whole host, or a request by sysrq.
//!
//! No field holds the scope. But each scope reaches the OOM killer through another function, which the kernel stack
//! shows.

use std::{
    fs::{File, OpenOptions, remove_file},
    io::{self, BufRead, BufReader, Seek as _, Write as _},
    ops::{ControlFlow, Range},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
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

/// A symbol table in the format of `/proc/kallsyms` that shows its addresses. The kernel decides on that as the table is
/// opened, so that it can be read without the right for it.
#[derive(Debug)]
pub struct Table(File);

impl Table {
    /// Fails with the reason.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut file =
            File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let mut first = None;
        let found = each_function(BufReader::new(&file), |address, _| {
            first = Some(address);
            ControlFlow::Break(())
        });
        found
            .and_then(|()| file.rewind())
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // The kernel shows each hidden address as 0.
        if first.unwrap_or_default() == 0 {
            return Err(format!(
                "{} hides the kernel's addresses (kptr_restrict, or CAP_SYSLOG is missing)",
                path.display()
            ));
        }
        Ok(Self(file))
    }

    /// The same, or a copy if the kernel hides its own symbols from this process.
    pub fn open_or_copy(path: &Path, copy: &Path) -> Result<Self, String> {
        Self::open(path).or_else(|reason| Self::open(copy).map_err(|_| reason))
    }

    /// Reads the whole table: several megabytes, for which the kernel takes some 30 ms.
    pub fn read(&self) -> io::Result<Symbols> {
        parse(BufReader::with_capacity(64 * 1024, &self.0))
    }
}

/// The address ranges of the functions in the running kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Symbols(Vec<(Range<u64>, OomScope)>);

impl Symbols {
    /// Writes a copy in the same format, with the ranges of these functions only. It is a new file that only its owner
    /// may read.
    pub fn write_to(&self, copy: &Path) -> io::Result<()> {
        match remove_file(copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut text = String::new();
        for (range, scope) in &self.0 {
            let name = FUNCTIONS.iter().find(|it| it.1 == *scope).map_or("", |it| it.0);
            text.push_str(&format!("{:016x} T {name}\n{:016x} T end\n", range.start, range.end));
        }
        // `create_new` follows no link and does not open a file that another process made meanwhile.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
        file?.write_all(text.as_bytes())
    }

    fn scope(&self, stack: &[u64]) -> OomScope {
        for (_, scope) in FUNCTIONS {
            let mut of_scope = self.0.iter().filter(|it| it.1 == scope);
            if of_scope.any(|it| stack.iter().any(|frame| it.0.contains(frame))) {
                return scope;
            }
        }
        OomScope::Unknown
    }
}

/// The symbols of the running kernel, for the scopes of OOM kills. The daemon's start does not wait for them, and during an
/// OOM kill it should not read megabytes. So a thread reads them in between.
#[derive(Debug, Default)]
pub struct Scopes {
    /// None once a thread reads it, or without one.
    table: Option<Arc<Table>>,
    reading: Option<JoinHandle<Symbols>>,
    symbols: Option<Symbols>,
}

impl Scopes {
    /// Without a table, all scopes are unknown.
    pub fn of(table: Option<Table>) -> Self {
        Self { table: table.map(Arc::new), ..Self::default() }
    }

    /// Has a thread read the table. Where none can be started, the first OOM kill waits for it.
    pub fn read_ahead(&mut self) {
        let Some(table) = self.table.clone() else { return };
        self.reading =
            thread::Builder::new().name("kallsyms".to_owned()).spawn(move || read_or_warn(&table)).ok();
        if self.reading.is_some() {
            self.table = None;
        }
    }

    pub fn oom_scope(&mut self, stack: &[u64]) -> OomScope {
        let Self { table, reading, symbols } = self;
        let symbols = symbols.get_or_insert_with(|| {
            let read = reading.take().and_then(|thread| thread.join().ok());
            read.or_else(|| table.take().map(|table| read_or_warn(&table))).unwrap_or_default()
        });
        symbols.scope(stack)
    }
}

fn read_or_warn(table: &Table) -> Symbols {
    let read = table.read();
    read.unwrap_or_else(|error| {
        tracing::warn!("kernel symbols: cannot be read: {error}; the scopes of OOM kills are unknown");
        Symbols::default()
    })
}

/// Finds the functions. Each ends at the next higher address in the file, which need not be on the next line.
fn parse(table: impl BufRead) -> io::Result<Symbols> {
    let mut addresses = Vec::new();
    let mut found = Vec::new();
    each_function(table, |address, name| {
        if address != 0 {
            addresses.push(address);
            // Compilers split and clone functions: `out_of_memory.cold`, `out_of_memory.isra.0`.
            let base = name.split(|it| *it == b'.').next().unwrap_or(name);
            if let Some((_, scope)) = FUNCTIONS.iter().find(|it| it.0.as_bytes() == base) {
                found.push((address, *scope));
            }
        }
        ControlFlow::Continue(())
    })?;
    let end = |start: u64| addresses.iter().copied().filter(|it| *it > start).min().unwrap_or(u64::MAX);
    Ok(Symbols(found.into_iter().map(|(start, scope)| (start..end(start), scope)).collect()))
}

/// Passes the address and the name of each function on, in the order of the table.
fn each_function(
    mut table: impl BufRead,
    mut pass: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? != 0 {
        if let Some((address, name)) = symbol(&line)
            && pass(address, name).is_break()
        {
            break;
        }
        line.clear();
    }
    Ok(())
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
        parse(table.as_bytes()).unwrap()
    }

    #[test]
    fn a_special_function_wins_over_the_common_one() {
        let symbols = symbols(TABLE);
        let common = 0xffff_ffff_8100_2010;
        assert_eq!(symbols.scope(&[common]), OomScope::Global);
        assert_eq!(symbols.scope(&[0xffff_ffff_8100_1004, common, 0xffff_ffff_8100_3abc]), OomScope::Memcg);
        assert_eq!(symbols.scope(&[common, 0xffff_ffff_8100_4001]), OomScope::Sysrq);
    }

    #[test]
    fn a_function_ends_where_the_next_one_starts() {
        let symbols = symbols(TABLE);
        assert_eq!(symbols.scope(&[0xffff_ffff_8100_2fff]), OomScope::Global);
        assert_eq!(symbols.scope(&[0xffff_ffff_8100_5000, 0]), OomScope::Unknown);
        assert_eq!(symbols.scope(&[]), OomScope::Unknown);
    }

    #[test]
    fn hidden_addresses_and_a_missing_file_have_different_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("kallsyms");
        let reason = |path: &Path| Table::open(path).unwrap_err();
        let hidden: String =
            TABLE.lines().map(|it| format!("{:016}{}\n", 0, it.get(16..).unwrap_or(""))).collect();
        std::fs::write(&table, &hidden).unwrap();
        assert!(reason(&table).contains("kptr_restrict"));
        assert!(reason(Path::new("/dev/null")).contains("kptr_restrict"));
        assert!(reason(Path::new("/nonexistent")).contains("/nonexistent"));
        // The addresses of data may begin at 0 on any kernel.
        std::fs::write(&table, format!("0000000000000000 A fixed_percpu_data\n{TABLE}")).unwrap();
        assert_eq!(Table::open(&table).unwrap().read().unwrap(), symbols(TABLE));
    }

    #[test]
    fn an_oom_kill_has_its_scope_whether_the_table_was_read_ahead_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kallsyms");
        std::fs::write(&path, TABLE).unwrap();
        for is_ahead in [false, true] {
            let mut scopes = Scopes::of(Some(Table::open(&path).unwrap()));
            if is_ahead {
                scopes.read_ahead();
            }
            for _ in 0..2 {
                assert_eq!(scopes.oom_scope(&[0xffff_ffff_8100_2010]), OomScope::Global);
            }
        }
        assert_eq!(Scopes::of(None).oom_scope(&[0xffff_ffff_8100_2010]), OomScope::Unknown);
    }

    #[test]
    fn a_copy_has_the_same_symbols_and_serves_where_the_kernel_hides_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (table, copy) = (folder.path().join("kallsyms"), folder.path().join("copy"));
        std::fs::write(&table, TABLE).unwrap();
        let symbols = Table::open(&table).unwrap().read().unwrap();
        // A link at the path is replaced; its target stays as it is.
        std::os::unix::fs::symlink(&table, &copy).unwrap();
        symbols.write_to(&copy).unwrap();
        assert_eq!(std::fs::read_to_string(&table).unwrap(), TABLE);
        let copied = Table::open_or_copy(Path::new("/dev/null"), &copy).unwrap();
        assert_eq!(copied.read().unwrap(), symbols);

        let neither = Table::open_or_copy(Path::new("/dev/null"), Path::new("/nonexistent"));
        assert!(neither.unwrap_err().contains("kptr_restrict"));
    }
}
