//! Every hook is attached and complete.

use anyhow::{Result, bail, ensure};
use hostprobe::sensor::ebpf::{Attachment, EbpfSensor, btf::BtfError, fields};

use crate::report::{self, Outcome};

pub fn run(sensor: &EbpfSensor) {
    for coverage in sensor.coverage() {
        report::check(&format!("hook {}", coverage.hook.tracepoint()), &check(coverage));
    }
}

fn check(coverage: &Attachment) -> Result<Outcome> {
    let name = coverage.hook.tracepoint();
    if let Some(reason) = &coverage.reason {
        // Only a kernel whose type information lacks the tracepoint may lack the hook.
        let types = fields::read("/sys/kernel/btf/vmlinux".as_ref())?;
        return match types.tracepoint(name) {
            Err(BtfError::NoType(_)) => Ok(Outcome::Absent(reason.clone())),
            Err(_) | Ok(_) => bail!("not attached: {reason}"),
        };
    }
    ensure!(coverage.lacking.is_empty(), "attached, but lacks {:?}", coverage.lacking);
    Ok(Outcome::Passed("attached, lacks nothing".to_owned()))
}
