//! How often hostprobe, Monit and rules like the kubelet's restart services that are well, in the same trouble at the same time.
//!
//! Each tool keeps services of its own running, on one host. Every trouble happens to the services of all three at once. None
//! of it is a fault of the service, and a restart mends none of it; the two controls are real faults, which a restart mends.
//! What counts is seen from outside: another process serves the port.

mod kubelet;
pub mod page;
mod stage;
mod tools;
mod trouble;
mod troubles;
mod watch;

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

pub use self::trouble::{TOOLS, TROUBLES, Tool, Trouble};
use self::{stage::Stage, tools::Tools};

/// How long all must have been well before the first trouble.
const CALM: Duration = Duration::from_secs(45);

/// How often each trouble happened, and the restarts of its services by each tool.
#[derive(Debug, Default)]
pub struct Findings {
    pub took: Duration,
    /// How often each of the troubles happened.
    pub passes: usize,
    pub restarts: BTreeMap<(&'static str, Tool), usize>,
}

impl Findings {
    pub fn of(&self, trouble: &Trouble, tool: Tool) -> usize {
        self.restarts.get(&(trouble.name, tool)).copied().unwrap_or(0)
    }

    /// The restarts by a tool of services that were well.
    pub fn false_restarts(&self, tool: Tool) -> usize {
        let wells = TROUBLES.iter().filter(|trouble| !trouble.is_fault);
        wells.map(|trouble| self.of(trouble, tool)).sum()
    }
}

/// Has all troubles happen again and again, for at least so long.
///
/// # Errors
/// If a part is missing or a tool does not start.
pub fn run(length: Duration) -> Result<Findings> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    let stage = Stage::new()?;
    let tools = Tools::start(&stage)?;
    stage.until_all_serve()?;
    println!("all services are well; the troubles begin in {} s", CALM.as_secs());
    sleep(CALM);
    let began = Instant::now();
    let mut findings = Findings::default();
    while findings.passes == 0 || began.elapsed() < length {
        pass(&stage, &tools, &mut findings)?;
        findings.passes += 1;
        println!("pass {} after {} s\n{}", findings.passes, began.elapsed().as_secs(), findings.table());
    }
    findings.took = began.elapsed();
    Ok(findings)
}

/// Has each trouble happen once: those that concern their own services alone together, the others one after the other.
fn pass(stage: &Stage, tools: &Tools, findings: &mut Findings) -> Result<()> {
    let (together, apart): (Vec<&Trouble>, Vec<&Trouble>) =
        TROUBLES.iter().partition(|it| !it.is_felt_by_all);
    let groups = std::iter::once(together).chain(apart.into_iter().map(|trouble| vec![trouble]));
    for group in groups {
        let before: Vec<_> = group.iter().map(|trouble| stage.served(trouble)).collect();
        let longest = group.iter().map(|trouble| trouble.lasts).max().unwrap_or_default();
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = group
                .iter()
                .map(|trouble| scope.spawn(move || troubles::happen(stage, tools, trouble)))
                .collect();
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })?;
        println!("  {}: over after {} s", names(&group), longest.as_secs());
        // A tool may find late what it takes for a fault.
        sleep(AFTERMATH);
        stage.until_all_serve()?;
        for (trouble, before) in group.iter().zip(before) {
            for tool in TOOLS {
                let more = stage.served(trouble)[&tool] - before[&tool];
                // A deployment is a restart that an operator asked for.
                *findings.restarts.entry((trouble.name, tool)).or_default() +=
                    more.saturating_sub(trouble.asked_for);
            }
        }
    }
    Ok(())
}

/// Longer than a round of each tool's probes, three times over.
const AFTERMATH: Duration = Duration::from_secs(35);

fn names(group: &[&Trouble]) -> String {
    group.iter().map(|trouble| trouble.name).collect::<Vec<_>>().join(", ")
}
