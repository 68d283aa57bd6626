//! The stack of one thread, with names.

use super::{name::Function, reason::Reason};

/// One call on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackFrame {
    pub function: Option<Function>,
    /// The file without its folder. Empty for generated code.
    pub file: String,
    /// Where in the file it is, by the file's own addresses; without a file, where in memory.
    pub address: u64,
}

/// What a thread does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStack {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    pub state: char,
    pub reason: Reason,
    /// The innermost first.
    pub frames: Vec<StackFrame>,
    /// The calls in the kernel, if this process may read them.
    pub kernel: Vec<String>,
    pub channel: Option<String>,
    /// It goes back to the function that the thread began with.
    pub is_complete: bool,
}

impl StackFrame {
    /// Such as `app+0x1180`.
    pub fn place(&self) -> String {
        match self.file.as_str() {
            "" => format!("{:#x}", self.address),
            file => format!("{file}+{:#x}", self.address),
        }
    }

    /// Such as `transfer()`. None without a name.
    pub fn call(&self) -> Option<String> {
        let name = &self.function.as_ref()?.name;
        Some(if name.ends_with(')') { name.clone() } else { format!("{name}()") })
    }

    /// Such as `transfer() (app+0x1180) at app.c:12`.
    pub fn words(&self) -> String {
        let place = self.place();
        let line = self.function.as_ref().and_then(|function| function.line.as_ref());
        let line = line.map(|line| format!(" at {line}")).unwrap_or_default();
        self.call().map_or_else(|| place.clone(), |call| format!("{call} ({place}){line}"))
    }

    /// Whether it belongs to the C library, or to the library of a language, which all programs call to wait.
    pub fn is_of_runtime(&self) -> bool {
        const FILES: [&str; 9] = [
            "libc.so",
            "libc-",
            "ld-linux",
            "ld-musl",
            "libpthread",
            "libstdc++",
            "libgcc_s",
            "libm.so",
            "[vdso]",
        ];
        const NAMES: [&str; 11] = [
            "std::",
            "core::",
            "alloc::",
            "<std::",
            "<core::",
            "<alloc::",
            "parking_lot",
            "<parking_lot",
            "runtime.",
            "syscall",
            "__rust",
        ];
        let name = self.function.as_ref().map_or("", |function| function.name.as_str());
        FILES.iter().any(|file| self.file.starts_with(file)) || NAMES.iter().any(|it| name.starts_with(it))
    }
}
