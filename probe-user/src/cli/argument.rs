//! Arguments that several commands share.

use hostprobe::sensor::ebpf::Hook;

/// The default configuration file.
pub(super) const DEFAULT_CONFIG: &str = "/etc/hostprobe/hostprobe.toml";

/// The hooks that an argument names.
pub(super) type Hooks = Vec<Hook>;

pub(super) fn hooks(name: &str) -> Result<Hooks, String> {
    if name == "all" {
        return Ok(Hook::ALL.to_vec());
    }
    let names = || Hook::ALL.map(Hook::tracepoint).join(", ");
    Hook::at(name).map(|hook| vec![hook]).ok_or_else(|| format!("expected \"all\" or one of {}", names()))
}
