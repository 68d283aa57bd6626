//! This kernel's type information, reduced to what the resolver looks at.

use std::fs;

use anyhow::{Context, Error, Result};
use hostprobe::sensor::ebpf::{
    btf::{KernelTypes, reduce::reduce},
    fields::{self, Resolved},
};
use serde_json::json;

use crate::{checks::release, report::say};

/// The running kernel's own.
const WHOLE: &str = "/sys/kernel/btf/vmlinux";

/// The whole and the reduced type information, each with what the resolver makes of it.
pub fn both() -> Result<(Resolved, Vec<u8>, Resolved)> {
    let whole = fs::read(WHOLE).context(WHOLE)?;
    let reduced = reduce(&whole).map_err(Error::msg)?;
    let resolved =
        |bytes: &[u8]| KernelTypes::parse(bytes).map(|it| fields::resolve(&it)).map_err(Error::msg);
    let (by_whole, by_reduced) = (resolved(&whole)?, resolved(&reduced)?);
    Ok((by_whole, reduced, by_reduced))
}

/// Prints both as a line of JSON: the bytes in hexadecimal, and what the whole resolves to.
pub fn print() -> Result<()> {
    let (resolved, reduced, _) = both()?;
    let hex: String = reduced.iter().map(|byte| format!("{byte:02x}")).collect();
    let unusable: Vec<_> =
        resolved.unusable.iter().map(|(hook, reason)| format!("{}: {reason}", hook.tracepoint())).collect();
    say(&json!({ "types": hex, "kernel": release(), "globals": resolved.globals, "unusable": unusable }));
    Ok(())
}
