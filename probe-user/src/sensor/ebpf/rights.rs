//! The capabilities that a load needs.

use std::{fs, path::Path};

/// Includes the other two.
const SYS_ADMIN: u32 = 21;
/// For programs that read kernel memory.
const PERFMON: u32 = 38;
/// For maps and programs.
const BPF: u32 = 39;

/// The missing capabilities, by name. Empty also if `/proc/self/status` cannot be read: then the kernel refuses the
/// load.
pub fn missing(status: &Path) -> Vec<&'static str> {
    fs::read_to_string(status).ok().and_then(|text| effective(&text)).map(lacking).unwrap_or_default()
}

/// The effective capability set, from the `CapEff` line.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn lacking(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    if has(SYS_ADMIN) {
        return Vec::new();
    }
    [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON")].iter().filter(|it| !has(it.0)).map(|it| it.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_exactly_the_missing_capabilities() {
        assert_eq!(lacking(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(lacking(1 << BPF), ["CAP_PERFMON"]);
        assert_eq!(lacking(1 << BPF | 1 << PERFMON), [""; 0]);
        assert_eq!(lacking(1 << SYS_ADMIN), [""; 0]);
    }

    #[test]
    fn reads_the_status_file() {
        let text = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000008000000000\n";
        assert_eq!(effective(text), Some(1 << BPF));
        assert_eq!(effective("CapEff:\tnonsense\n"), None);
        assert!(missing(Path::new("/nonexistent")).is_empty());
    }
}
