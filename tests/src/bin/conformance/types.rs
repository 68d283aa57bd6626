//! This kernel's type information, reduced to what the resolver uses.

use std::fs;

use anyhow::{Context, Error, Result};
use hostprobe::sensor::ebpf::{
    btf::{KernelTypes, reduce::reduce},
    fields::{self, Resolved},
};
use serde_json::json;

use crate::report;

const COMPLETE: &str = "/sys/kernel/btf/vmlinux";

/// The offsets from the complete type information, the reduced type information, and the offsets from that.
pub fn both() -> Result<(Resolved, Vec<u8>, Resolved)> {
    let complete = fs::read(COMPLETE).context(COMPLETE)?;
    let reduced = reduce(&complete, &fields::names()).map_err(Error::msg)?;
    let resolved =
        |bytes: &[u8]| KernelTypes::parse(bytes).map(|it| fields::resolve(&it)).map_err(Error::msg);
    let (from_complete, from_reduced) = (resolved(&complete)?, resolved(&reduced)?);
    Ok((from_complete, reduced, from_reduced))
}

/// Prints a line of JSON: the reduced bytes in hexadecimal, and the offsets from the complete ones.
pub fn print() -> Result<()> {
    let (resolved, reduced, _) = both()?;
    let hex: String = reduced.iter().map(|byte| format!("{byte:02x}")).collect();
    let unusable: Vec<_> =
        resolved.unusable.iter().map(|(hook, reason)| format!("{}: {reason}", hook.tracepoint())).collect();
    report::line(
        &json!({ "types": hex, "kernel": report::kernel_release(), "globals": resolved.globals, "unusable": unusable }),
    );
    Ok(())
}
