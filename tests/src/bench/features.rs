//! What each thing that a daemon can do beside its probes costs while nothing happens.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    probed,
    section::{Effort, Row, Section, Unit},
    usage::{Used, memory, window},
};
use crate::{
    daemon::Daemon,
    features::{self, FEATURES},
    many_processes::Servers,
};

/// Services that are probed.
const SERVICES: usize = 10;

/// The daemon that nothing is added to.
const PLAIN: &str = "hostprobe, probes alone";

const ALL: &str = "with all of them";

/// CPU in percent of one core, wake-ups a second, resident and anonymous memory in bytes.
type Figures = [Vec<f64>; 4];

/// Measures a daemon without any of the features, with each of them, and with all, in turn.
pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, warm_up, part) = effort.pick((3, 4_000, 10_000), (1, 500, 1_000));
    let (warm_up, part) = (Duration::from_millis(warm_up), Duration::from_millis(part));
    let servers = Servers::start(SERVICES);
    let names: Vec<String> = std::iter::once(PLAIN.to_owned())
        .chain(FEATURES.iter().map(|feature| format!("with {}", feature.name)))
        .chain([ALL.to_owned()])
        .collect();
    let (mut figures, mut unmeasured) = (BTreeMap::<&str, Figures>::new(), Vec::new());
    for _ in 0..rounds {
        for (at, name) in names.iter().enumerate() {
            let folder = TempDir::new().context("no temporary folder can be made")?;
            let is_chosen = |feature: &features::Feature| {
                name == ALL || at.checked_sub(1).is_some_and(|at| FEATURES[at].name == feature.name)
            };
            let Some(set) = features::with(is_chosen, folder.path()) else {
                unmeasured.push(format!("A daemon {name}: what it takes is not installed."));
                continue;
            };
            let mark = servers.mark()?;
            let daemon = Daemon::start(&format!("{}{}", set.config, probed::services(&servers.ports)), &[]);
            daemon.ready();
            probed::all_asked(&servers, mark);
            thread::sleep(warm_up);
            let used = window(&[vec![daemon.pid()]], part)?;
            let memory = memory(&[daemon.pid()])?;
            let [cpu, wakeups, resident, anonymous] = figures.entry(name).or_default();
            cpu.extend(used.iter().map(Used::percent));
            wakeups.extend(used.iter().map(Used::wakeups));
            resident.push(memory.resident);
            anonymous.push(memory.anonymous);
        }
    }
    unmeasured.dedup();
    let row = |figure: &str, unit, at: usize| {
        let measured = names.iter().filter_map(|name| Some((name, figures.get(name.as_str())?)));
        measured.fold(Row::new(figure, unit), |row, (name, figures)| row.of(name, &figures[at]))
    };
    Ok(Section {
        name: "features".to_owned(),
        title: "Cost of each feature while nothing happens".to_owned(),
        method: format!(
            "Ten services are probed over HTTP once a second, by a daemon that does nothing beside: no page, no control \
             socket, no state, no checks of the host, no receivers. Then one feature is added at a time, with the real server \
             that it talks to, and in the end all of them. {rounds} round(s), one daemon after the other; each sample is \
             the mean over {} s. It is what the daemon itself uses; hooks are attached in each.",
            part.as_secs_f64()
        ),
        rows: vec![
            row("CPU of one core, one feature at a time", Unit::Percent, 0),
            row("wake-ups, one feature at a time", Unit::PerSecond, 1),
            row("resident memory, one feature at a time", Unit::Bytes, 2),
            row("anonymous memory, one feature at a time", Unit::Bytes, 3),
        ],
        further: String::new(),
        unmeasured,
    })
}
