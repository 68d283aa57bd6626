//! What the hooks take of the kernel's time.

mod exits;
mod faults;
mod tcp;

use anyhow::Result;

use super::{
    bpf_stats::Counting,
    section::{Effort, Section},
};

const METHOD: &str = "The kernel counts what eBPF programs take (`run_time_ns / run_cnt`, with `kernel.bpf_stats_enabled`). Each \
round starts hostprobe, then its peer, each alone, and has them see the same: a storm of children of an unprivileged \
process, TCP connections over loopback, or failed reads of a disk. A sample is the mean of one round. The kernel's figures include about one reading of its \
clock for each run, so an empty program at the same hook is measured too: no figure can be below that. exitsnoop and \
tcpstates write to pipes that are read at once.";

pub fn measure(effort: Effort) -> Result<Section> {
    let _counting = Counting::begin()?;
    let mut rows = exits::measure(effort)?;
    rows.extend(tcp::measure(effort)?);
    rows.extend(faults::measure(effort)?);
    Ok(Section {
        name: "kernel".to_owned(),
        title: "Time in the kernel".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}
