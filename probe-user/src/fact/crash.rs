//! Where a process crashed.

use serde::{Deserialize, Serialize};

use super::signal::signal_name;

const SIGILL: u8 = 4;
const SIGTRAP: u8 = 5;
const SIGABRT: u8 = 6;
const SIGBUS: u8 = 7;
const SIGFPE: u8 = 8;
const SIGSEGV: u8 = 11;
const SIGSYS: u8 = 31;

/// Libraries of the languages' own functions, by the beginning of their file names. What went wrong is in what called them.
const LIBRARIES: [&str; 7] = [
    "libc.so.",
    "ld-musl-",
    "libpthread.so.",
    "libstdc++.so.",
    "libc++.so.",
    "libc++abi.so.",
    "libgcc_s.so.",
];

/// The beginnings of such functions' names where they are part of the program: those of Rust and C++.
const FUNCTIONS: [&str; 6] = ["std::", "core::", "alloc::", "__rustc::", "rust_", "__rust_"];

/// What a process was doing with the memory at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryAccess {
    Read,
    Write,
    Execute,
}

impl MemoryAccess {
    /// The word used for it in events and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Execute => "executing",
        }
    }
}

/// Where a process was when it got the signal that ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashSite {
    pub signal: u8,
    /// `si_code`, which says what kind of fault it is.
    pub code: i32,
    /// The process sent the signal to itself: by `abort`, or from a handler that had taken the fault.
    pub is_raised: bool,
    /// The address that it could not access.
    pub address: Option<u64>,
    pub access: Option<MemoryAccess>,
    /// The memory of the thread's stack was used up.
    pub stack_overflow: bool,
    /// The innermost first. Only the first one is sure to be there.
    pub stack: Vec<CrashFrame>,
    /// The language's runtime that the process is of, such as `Go`.
    pub runtime: Option<String>,
    /// The core dump: its file, or that of `systemd-coredump`.
    pub core: Option<String>,
}

/// One place in the code. Which of its values are known depends on what could be read of a process that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashFrame {
    /// The address in the process; None where the kernel gave the place in the file instead.
    pub address: Option<u64>,
    /// The place in the module's file, in bytes from its beginning.
    pub offset: Option<u64>,
    /// The build id of the module, in hexadecimal digits.
    pub build_id: Option<String>,
    /// The path of the program or library, as the process had it.
    pub module: Option<String>,
    /// The function, demangled.
    pub symbol: Option<String>,
    /// The source file and line, as `parse.c:42`.
    pub line: Option<String>,
}

impl CrashFrame {
    /// The file name of the module.
    pub fn module_name(&self) -> Option<&str> {
        let path = self.module.as_deref()?;
        Some(path.rsplit('/').next().unwrap_or(path))
    }

    /// Whether it is in code of the service, and not in a function of its language.
    fn is_own(&self) -> bool {
        let in_library = |module: &str| LIBRARIES.iter().any(|library| module.starts_with(library));
        let symbol = self.symbol.as_deref().unwrap_or_default().trim_start_matches('<');
        self.module_name().is_some_and(|module| !in_library(module))
            && !FUNCTIONS.iter().any(|beginning| symbol.starts_with(beginning))
    }

    /// The place for people, such as `parse_header (libfoo.so.1+0x1180)`.
    pub fn words(&self) -> String {
        let place = match (self.module_name(), &self.build_id, self.offset) {
            (Some(module), _, Some(offset)) => format!("{module}+{offset:#x}"),
            (None, Some(build_id), Some(offset)) => {
                let short = build_id.get(..8).unwrap_or(build_id);
                format!("a file with build id {short}…+{offset:#x}")
            }
            (Some(module), _, None) => module.to_owned(),
            (None, ..) => match self.address {
                Some(address) => format!("{address:#x}, in no known file"),
                None => "an unknown place".to_owned(),
            },
        };
        match &self.symbol {
            Some(symbol) => format!("{symbol} ({place})"),
            None => place,
        }
    }

    /// As [`Self::words`], with the line of the source.
    pub fn words_with_line(&self) -> String {
        match &self.line {
            Some(line) => format!("{} at {line}", self.words()),
            None => self.words(),
        }
    }
}

impl CrashSite {
    /// The place that explains it best: the first one, but for a signal that the process sent itself the first one in its own
    /// code, and for a jump to nowhere the one that it came from.
    pub fn place(&self) -> Option<&CrashFrame> {
        if self.is_jump() {
            return self.stack.get(1);
        }
        let own = if self.is_raised { self.own() } else { None };
        own.or(self.stack.first())
    }

    /// The first place in code of the service.
    fn own(&self) -> Option<&CrashFrame> {
        self.stack.iter().find(|frame| frame.is_own())
    }

    /// Which code of the service called the function of its language that has the fault.
    fn caller(&self) -> Option<&CrashFrame> {
        let is_inside = self.stack.first().is_some_and(|first| first.module.is_some() && !first.is_own());
        if is_inside { self.own() } else { None }
    }

    /// Whether the process went on at an address where no code is.
    fn is_jump(&self) -> bool {
        self.access == Some(MemoryAccess::Execute)
    }

    /// What happened and where, for people: `crashed in parse_header (libfoo.so.1+0x1180), reading 0x10`.
    pub fn words(&self) -> String {
        let place = self.place().map(CrashFrame::words);
        let of_runtime = self.runtime.as_ref().map(|it| format!(" of a {it} program")).unwrap_or_default();
        if let (true, Some(address)) = (self.is_jump(), self.address) {
            return match place {
                Some(place) => format!("jumped to {address:#x}, where no code is, from {place}{of_runtime}"),
                None => format!("jumped to {address:#x}, where no code is{of_runtime}"),
            };
        }
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        if self.is_raised {
            return match self.signal {
                SIGABRT => format!("aborted in {place}{of_runtime}"),
                other => format!(
                    "raised {} in {place}{of_runtime}; where its handler took the fault is not known",
                    signal_name(other)
                ),
            };
        }
        let how = match (self.signal, self.code) {
            (SIGSEGV | SIGBUS, _) if self.stack_overflow => ", its stack is used up".to_owned(),
            (SIGBUS, 2) => ", past the end of a mapped file".to_owned(),
            (SIGSEGV | SIGBUS, _) => match (self.address, self.access) {
                (Some(address), Some(access)) => format!(", {} {address:#x}", access.as_str()),
                (Some(address), None) => format!(", at {address:#x}"),
                (None, _) => ", by an address that the processor refuses".to_owned(),
            },
            (SIGFPE, 1) => ", dividing by zero".to_owned(),
            (SIGFPE, _) => ", by an arithmetic error".to_owned(),
            (SIGILL, _) => ", by an illegal instruction".to_owned(),
            (SIGTRAP, _) => ", by a trap".to_owned(),
            (SIGSYS, _) => ", by a system call that it may not use".to_owned(),
            (other, _) => format!(", by {}", signal_name(other)),
        };
        let caller = self.caller().map(|it| format!(", called by {}", it.words())).unwrap_or_default();
        format!("crashed in {place}{caller}{of_runtime}{how}")
    }

    /// The stack for people, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.stack.iter().map(CrashFrame::words_with_line)
    }

    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let frames = self.stack.iter_mut().flat_map(|frame| {
            [&mut frame.build_id, &mut frame.module, &mut frame.symbol, &mut frame.line].into_iter().flatten()
        });
        self.runtime.iter_mut().chain(&mut self.core).chain(frames)
    }
}

#[cfg(test)]
impl CrashSite {
    /// A read of an address near 0 in a library, for tests of what is made of it.
    pub fn example() -> Self {
        let in_library = CrashFrame {
            offset: Some(0x1180),
            build_id: Some("5f".repeat(20)),
            module: Some("/usr/lib/libfoo.so.1".to_owned()),
            symbol: Some("parse_header".to_owned()),
            line: Some("parse.c:42".to_owned()),
            ..CrashFrame::default()
        };
        let in_program = CrashFrame {
            address: Some(0x5555_0000_2345),
            offset: Some(0x2345),
            module: Some("/usr/bin/api".to_owned()),
            ..CrashFrame::default()
        };
        Self {
            signal: SIGSEGV,
            code: 1,
            is_raised: false,
            address: Some(0x10),
            access: Some(MemoryAccess::Read),
            stack_overflow: false,
            stack: vec![in_library, in_program],
            runtime: None,
            core: Some("/var/lib/systemd/coredump/core.api.zst".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(change: impl FnOnce(&mut CrashSite)) -> String {
        let mut site = CrashSite::example();
        change(&mut site);
        site.words()
    }

    #[test]
    fn a_sentence_says_where_and_how() {
        assert_eq!(site(|_| {}), "crashed in parse_header (libfoo.so.1+0x1180), reading 0x10");
        assert_eq!(
            site(|it| it.access = None),
            "crashed in parse_header (libfoo.so.1+0x1180), at 0x10",
            "no processor but some says which access it was"
        );
        assert_eq!(
            site(|it| it.address = None),
            "crashed in parse_header (libfoo.so.1+0x1180), by an address that the processor refuses"
        );
        assert_eq!(
            site(|it| it.stack_overflow = true),
            "crashed in parse_header (libfoo.so.1+0x1180), its stack is used up"
        );
        let by_zero = site(|it| (it.signal, it.code) = (SIGFPE, 1));
        assert!(by_zero.ends_with(", dividing by zero"), "{by_zero}");
        assert_eq!(site(|it| it.stack.clear()), "crashed in an unknown place, reading 0x10");
    }

    #[test]
    fn a_jump_to_nowhere_is_said_with_what_it_came_from() {
        let jump = |it: &mut CrashSite| {
            (it.address, it.access) = (Some(0), Some(MemoryAccess::Execute));
            it.stack[0] = CrashFrame { address: Some(0), ..CrashFrame::default() };
        };
        assert_eq!(site(jump), "jumped to 0x0, where no code is, from api+0x2345");
        let alone = |it: &mut CrashSite| {
            jump(it);
            it.stack.truncate(1);
        };
        assert_eq!(site(alone), "jumped to 0x0, where no code is");
    }

    #[test]
    fn an_abort_is_said_with_what_called_the_c_library() {
        let abort = |it: &mut CrashSite| {
            (it.signal, it.is_raised) = (SIGABRT, true);
            it.stack[0].module = Some("/lib/x86_64-linux-gnu/libc.so.6".to_owned());
        };
        assert_eq!(site(abort), "aborted in api+0x2345");
        for musl in ["x86_64", "aarch64"] {
            let in_musl = |it: &mut CrashSite| {
                abort(it);
                it.stack[0].module = Some(format!("/lib/ld-musl-{musl}.so.1"));
            };
            assert_eq!(site(in_musl), "aborted in api+0x2345");
        }
        let alone = |it: &mut CrashSite| {
            abort(it);
            it.stack.truncate(1);
            it.runtime = Some("Go".to_owned());
        };
        assert_eq!(site(alone), "aborted in parse_header (libc.so.6+0x1180) of a Go program");
    }

    #[test]
    fn a_fault_in_a_function_of_the_language_is_said_with_the_code_that_called_it() {
        let in_c_library = |it: &mut CrashSite| it.stack[0].module = Some("/lib/libc.so.6".to_owned());
        let called = "crashed in parse_header (libc.so.6+0x1180), called by api+0x2345, reading 0x10";
        assert_eq!(site(in_c_library), called);
        let in_rust = |it: &mut CrashSite| {
            it.stack[0].symbol = Some("<alloc::vec::Vec<T> as core::ops::index::Index<I>>::index".to_owned());
        };
        assert!(site(in_rust).ends_with("(libfoo.so.1+0x1180), called by api+0x2345, reading 0x10"));
    }

    #[test]
    fn a_panic_of_rust_is_said_with_what_panicked() {
        let panic = |it: &mut CrashSite| {
            (it.signal, it.is_raised) = (SIGABRT, true);
            let frame = |symbol: &str| CrashFrame { symbol: Some(symbol.to_owned()), ..it.stack[1].clone() };
            it.stack = ["abort", "std::process::abort", "__rustc::rust_panic", "core::panicking::panic_fmt"]
                .map(frame)
                .into();
            it.stack[0].module = Some("/lib/libc.so.6".to_owned());
            let own = CrashFrame { symbol: Some("api::take".to_owned()), ..it.stack[1].clone() };
            it.stack.push(own);
        };
        assert_eq!(site(panic), "aborted in api::take (api+0x2345)");
    }

    #[test]
    fn a_place_is_as_exact_as_what_is_known_of_it() {
        let mut frame = CrashSite::example().stack.remove(0);
        assert_eq!(frame.words_with_line(), "parse_header (libfoo.so.1+0x1180) at parse.c:42");
        (frame.symbol, frame.line) = (None, None);
        assert_eq!(frame.words_with_line(), "libfoo.so.1+0x1180");
        frame.module = None;
        assert_eq!(frame.words(), "a file with build id 5f5f5f5f…+0x1180");
        frame = CrashFrame { address: Some(0x10), ..CrashFrame::default() };
        assert_eq!(frame.words(), "0x10, in no known file");
        assert_eq!(CrashFrame::default().words(), "an unknown place");
    }
}
