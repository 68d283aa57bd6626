//! Whether hostile surroundings cost the daemon memory and CPU, or a neighbour the detection of its death.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result};

use super::{
    section::{Effort, Row, Section, Unit},
    stats::Summary,
};
use crate::attack::{ATTACKS, Attack, Outcome, run};

/// A neighbour's death may be detected this much later than in quiet surroundings.
const FACTOR: f64 = 2.0;

const METHOD: &str = "A service under the supervisor is killed again and again, first in quiet surroundings, then under each attack, \
and this several times over. The time is from the kernel's record of the death to its detection; memory is the greatest resident \
size of the daemon, CPU that of the time in which the service is killed, lines are those of the stream and of the log.";

pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, kills, least) =
        effort.pick((3, 20, Duration::from_secs(5)), (1, 3, Duration::from_millis(500)));
    let mut outcomes: Vec<Vec<Outcome>> = ATTACKS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (attack, outcomes) in ATTACKS.iter().zip(&mut outcomes) {
            eprintln!("  {}", attack.name);
            outcomes.push(run(attack, kills, least).context(attack.name)?);
        }
    }
    let detected = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().flat_map(|outcome| outcome.detected_ns.iter().copied()).collect()
    };
    let quiet = Summary::of(&detected(&outcomes[0])).context("no death was detected")?.median;
    let mut rows = Vec::new();
    for (attack, outcomes) in ATTACKS.iter().zip(&outcomes) {
        let name = format!("detection of a neighbour's death: {}", attack.name);
        let row = Row::new(&name, Unit::Nanoseconds).of("hostprobe", &detected(outcomes));
        let median = row.summary("hostprobe").context("no death was detected")?.median;
        let times = Unit::Times.show(median / quiet);
        rows.push(row.target(&format!("≤ {FACTOR} × quiet"), times, median <= FACTOR * quiet));
    }
    Ok(Section {
        name: "attacks".to_owned(),
        title: "Hostile surroundings".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: table(ATTACKS, &outcomes, quiet),
        unmeasured: Vec::new(),
    })
}

/// Each attack with what it cost.
fn table(attacks: &[Attack], outcomes: &[Vec<Outcome>], quiet: f64) -> String {
    let mut table = String::from(
        "\n| attack | what it does | greatest memory | CPU | lines a second | detection, median | against quiet |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for (attack, outcomes) in attacks.iter().zip(outcomes) {
        let most = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max);
        let detected: Vec<f64> = outcomes.iter().flat_map(|it| it.detected_ns.iter().copied()).collect();
        let median = Summary::of(&detected).map_or(f64::NAN, |summary| summary.median);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {:.0} | {} | {} |",
            attack.name,
            attack.what,
            Unit::Bytes.show(most(|outcome| outcome.resident)),
            Unit::Percent.show(most(|outcome| outcome.cpu_percent)),
            most(|outcome| outcome.lines_per_second),
            Unit::Nanoseconds.show(median),
            Unit::Times.show(median / quiet),
        );
    }
    table
}
