//! How many messages a person gets about the same faults from hostprobe, from Monit, and from Alertmanager with
//! blackbox_exporter, all of which watch the same services in the same run.
//!
//! Each fault has services of its own, so that each message is about one fault. hostprobe keeps the services running; the two
//! others only watch and tell, as their documentation sets them up. The faults begin one after the other and overlap.

mod faults;
pub mod page;
mod tools;

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, ensure};

use self::{
    faults::Stage,
    tools::{Alertmanager, Mailbox, Prometheus},
};
use crate::{
    bench::peers::monit::Monit,
    daemon::Daemon,
    incident_events::{text, wait_until_healthy},
    matrix::receiver::Receiver,
    operator::Home,
};
pub use faults::{FAULTS, Fault};

/// Between the beginnings of two faults.
const STAGGER: Duration = Duration::from_secs(15);

/// How long all must have been well before the first fault: each tool looks more than once.
const CALM: Duration = Duration::from_secs(75);

/// How long after the last fault messages may come: Alertmanager's `group_interval`, and what goes before it.
const AFTERMATH: Duration = Duration::from_secs(5 * 60 + 90);

/// A cycle of Monit, in seconds.
pub const CYCLE: u32 = 30;

/// The messages about each service: those of hostprobe, of Monit, and of Alertmanager.
#[derive(Debug, Default)]
pub struct Counts {
    pub hostprobe: BTreeMap<String, usize>,
    pub monit: BTreeMap<String, usize>,
    pub alertmanager: BTreeMap<String, usize>,
}

impl Counts {
    /// The messages of each tool about the services of a fault.
    pub fn of(&self, fault: &Fault) -> [usize; 3] {
        let sum = |counts: &BTreeMap<String, usize>| {
            fault.services.iter().filter_map(|service| counts.get(*service)).sum()
        };
        [sum(&self.hostprobe), sum(&self.monit), sum(&self.alertmanager)]
    }
}

/// Causes all faults and counts. It takes some twelve minutes.
///
/// # Panics
/// If a fault cannot be caused.
pub fn run() -> Result<Counts> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    let stage = Stage::new()?;
    let (receiver, mailbox, home) = (Receiver::start(), Mailbox::start()?, Home::new());
    let daemon = Daemon::start(&home.config(&(receiver.config() + &stage.services())), &[]);
    daemon.ready();
    for name in stage.supervised() {
        wait_until_healthy(&daemon, name);
    }
    let monit = Monit::start(CYCLE, &(mailbox.settings() + &stage.monit_checks()))?;
    let alerts = Receiver::start();
    let alertmanager = Alertmanager::start(alerts.port)?;
    let prometheus = Prometheus::start(alertmanager.port, &stage.targets())?;
    println!("all services are well; the faults begin in {} s", CALM.as_secs());
    thread::sleep(CALM);
    thread::scope(|scope| {
        for (fault, number) in FAULTS.iter().zip(0..) {
            let (stage, home) = (&stage, &home);
            scope.spawn(move || {
                thread::sleep(STAGGER * number);
                println!("{}: begins", fault.name);
                (fault.cause)(stage, home);
                println!("{}: is over", fault.name);
            });
        }
    });
    println!("the last messages may come within {} s", AFTERMATH.as_secs());
    thread::sleep(AFTERMATH);
    drop((prometheus, alertmanager, monit));
    let mut counts = Counts { monit: mailbox.by_service(), ..Counts::default() };
    let disk = stage.disk();
    for message in receiver.posted() {
        let service = text(&message, "service.name").to_owned();
        // Other programs of this host may fill and strain it meanwhile.
        if service == "host" && !text(&message, "message").contains(&disk) {
            continue;
        }
        *counts.hostprobe.entry(service).or_default() += 1;
    }
    for message in alerts.posted() {
        let service = message["groupLabels"]["service"].as_str().unwrap_or_default().to_owned();
        *counts.alertmanager.entry(service).or_default() += 1;
    }
    Ok(counts)
}
