//! The pressure on the host around an incident, which is no event: read from the recording, for `explain`.
//!
//! The recording has each sample of a host under pressure (`recording/filter.rs`). Samples that follow each other become one
//! entry of the timeline.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use super::{
    history::{Explanation, Further},
    recording::{
        filter::is_pressed,
        line::{Entry, Line},
        segment,
    },
};
use crate::{emit::for_each_line, fact::Pressure};

/// The most entries.
const MOST: usize = 8;

/// Samples that are further apart are of two times of pressure, in microseconds. The daemon takes one every few seconds.
const APART_US: i64 = 15_000_000;

/// What the line of such a sample has in it.
const MARK: &[u8] = b"{\"Pressure\":";

/// A part of a recorded observation.
#[derive(Deserialize)]
struct Seen {
    #[serde(rename = "Pressure")]
    pressure: Pressure,
}

/// A time of pressure.
#[derive(Clone, Debug, PartialEq)]
struct Period {
    from_us: i64,
    to_us: i64,
    /// The highest of each.
    most: Pressure,
}

/// Adds the times of pressure to an incident's timeline. A state directory without a recording has none. It blocks.
pub fn add_pressure(explanation: &mut Explanation, directory: &Path) {
    let Some((from, to)) = explanation.window() else { return };
    match periods(directory, from, to) {
        Ok(periods) => periods.into_iter().for_each(|period| {
            explanation.add(Further::Pressure, period.from_us, words(&period));
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!("{}: the recording cannot be read: {error}", directory.display()),
    }
}

/// The first times of pressure between two moments.
fn periods(directory: &Path, from: i64, to: i64) -> io::Result<Vec<Period>> {
    let folder = directory.join(segment::FOLDER);
    let mut found: Vec<Period> = Vec::new();
    for path in segment::files(&folder)? {
        // What was written last before then has nothing of then. The recording may be written some seconds late.
        let written = fs::metadata(&path).and_then(|meta| meta.modified());
        let written = written.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
        if written.is_none_or(|written| written.as_microsecond() < from) {
            continue;
        }
        // A running daemon may have deleted its oldest segment meanwhile.
        let Ok(file) = File::open(&path) else { continue };
        for_each_line(BufReader::new(file), |_, line| {
            let sample = line.filter(|line| line.windows(MARK.len()).any(|it| it == MARK)).and_then(sample);
            if let Some((at, pressure)) = sample.filter(|(at, it)| (from..=to).contains(at) && is_pressed(it))
            {
                add(&mut found, at, &pressure);
            }
        })?;
    }
    found.sort_by_key(|period| period.from_us);
    found.truncate(MOST);
    Ok(found)
}

fn sample(line: &[u8]) -> Option<(i64, Pressure)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let at = line.timestamp.parse::<jiff::Timestamp>().ok()?;
    let Entry::Observation(seen) = line.entry else { return None };
    Some((at.as_microsecond(), serde_json::from_value::<Seen>(seen.seen).ok()?.pressure))
}

fn add(found: &mut Vec<Period>, at: i64, pressure: &Pressure) {
    let count = found.len();
    if let Some(last) = found.last_mut().filter(|it| (it.from_us..=it.to_us + APART_US).contains(&at)) {
        last.to_us = last.to_us.max(at);
        let most = &mut last.most;
        most.cpu = most.cpu.max_of(pressure.cpu);
        most.memory = most.memory.max_of(pressure.memory);
        most.io = most.io.max_of(pressure.io);
        most.late = most.late.max(pressure.late);
    } else if count < 2 * MOST {
        found.push(Period { from_us: at, to_us: at, most: *pressure });
    }
}

/// The greater one of shares that may be unknown.
trait MaxOf {
    fn max_of(self, other: Self) -> Self;
}

impl MaxOf for Option<f64> {
    fn max_of(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        }
    }
}

/// Such as `the host was under pressure for 12 s: tasks waited for a CPU up to 96 % of the time`.
fn words(period: &Period) -> String {
    let Pressure { cpu, memory, io, late, .. } = period.most;
    let waits = [("a CPU", cpu), ("memory", memory), ("a disk", io)];
    let waits = waits.into_iter().filter_map(|(what, share)| {
        let percent = share? * 100.0;
        (percent >= 1.0).then(|| format!("for {what} up to {percent:.0} % of the time"))
    });
    let mut parts = waits.collect::<Vec<_>>();
    if let Some(first) = parts.first_mut() {
        *first = format!("tasks waited {first}");
    }
    if late >= Duration::from_millis(10) {
        parts.push(format!("hostprobe's own timer was up to {} ms late", late.as_millis()));
    }
    let lasted = (period.to_us - period.from_us) / 1_000_000;
    let lasted = if lasted == 0 { String::new() } else { format!(" for {lasted} s") };
    format!("the host was under pressure{lasted}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, fact::Observation, store::recording::line};

    fn line(at: jiff::Timestamp, cpu: f64) -> String {
        let pressure = Pressure { cpu: Some(cpu), memory: Some(0.001), io: None, ..Pressure::default() };
        let seen = serde_json::to_value(Observation::Pressure(pressure)).unwrap();
        let entry = Entry::Observation(line::Seen { services: Vec::new(), seen, clipped: false });
        let at_ns = Timestamp::default().as_nanos();
        let timestamp = format!("{at:.9}");
        serde_json::to_string(&Line { run: "c0ffee00".to_owned(), sequence: 1, timestamp, at_ns, entry })
            .unwrap()
    }

    #[test]
    fn samples_in_a_row_are_one_entry_with_the_highest_and_others_are_none() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(segment::FOLDER);
        fs::create_dir(&folder).unwrap();
        let at = |seconds: i64| jiff::Timestamp::from_second(1_769_828_400 + seconds).unwrap();
        let lines =
            [line(at(-100), 0.9), line(at(0), 0.5), line(at(5), 0.96), line(at(10), 0.1), line(at(60), 0.3)];
        fs::write(folder.join("00000001-c0ffee00.ndjson"), lines.join("\n") + "\nno line\n").unwrap();
        let between =
            |from, to| periods(state.path(), at(from).as_microsecond(), at(to).as_microsecond()).unwrap();
        let found: Vec<String> = between(-1, 100).iter().map(words).collect();
        let expected = [
            "the host was under pressure for 5 s: tasks waited for a CPU up to 96 % of the time",
            "the host was under pressure: tasks waited for a CPU up to 30 % of the time",
        ];
        assert_eq!(found, expected);
        assert_eq!(between(20, 30), []);
        assert!(periods(&state.path().join("none"), 0, 1).is_err());
    }
}
