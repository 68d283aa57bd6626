//! Every hook attaches, and lacks nothing.

use anyhow::{Result, bail, ensure};
use hostprobe::sensor::ebpf::{
    HookCoverage, Kernel,
    btf::{BtfError, KernelTypes},
};

use crate::report::{self, Outcome};

/// Tells of each hook.
pub fn tell(kernel: &Kernel) {
    for coverage in kernel.coverage() {
        report::tell(&format!("hook {}", coverage.hook.tracepoint()), &whole(coverage));
    }
}

fn whole(coverage: &HookCoverage) -> Result<Outcome> {
    let name = coverage.hook.tracepoint();
    if let Some(reason) = &coverage.reason {
        // The one excuse is that the kernel has no such place, by its own word.
        let types = KernelTypes::read("/sys/kernel/btf/vmlinux".as_ref())?;
        return match types.tracepoint(name) {
            Err(BtfError::NoType(_)) => Ok(Outcome::Absent(reason.clone())),
            Err(_) | Ok(_) => bail!("not attached: {reason}"),
        };
    }
    ensure!(coverage.lacking.is_empty(), "attached, but lacks {:?}", coverage.lacking);
    Ok(Outcome::Kept("attached, lacks nothing".to_owned()))
}
