//! The hooks that this kernel can have.

use std::path::Path;

use hostprobe::sensor::ebpf::{Hook, fields};

/// All but those whose tracepoint it lacks because it is built without what they report about.
///
/// # Panics
/// If the kernel has no type information.
pub fn possible() -> Vec<Hook> {
    let types = fields::read(Path::new("/sys/kernel/btf/vmlinux")).expect("the kernel's type information");
    let absent = fields::resolve(&types).absent;
    Hook::ALL.into_iter().filter(|hook| !absent.contains(hook)).collect()
}
