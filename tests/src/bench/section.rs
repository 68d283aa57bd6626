//! A section's figures: rows of samples with their targets.

use serde::{Deserialize, Serialize};

use super::stats::Summary;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As much as the figures need.
    Full,
    /// Only as much as shows that everything works; its figures mean little.
    Quick,
}

impl Effort {
    /// One of two numbers of rounds, seconds or the like.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// Figures that were measured together, in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The name of its task.
    pub name: String,
    pub title: String,
    /// What was done, with which peers, in plain sentences.
    pub method: String,
    pub rows: Vec<Row>,
    /// What there is to say beyond figures, in Markdown; empty if nothing.
    pub further: String,
    /// What could not be measured here, and why; each a sentence.
    pub unmeasured: Vec<String>,
}

/// One figure, of hostprobe and of those beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, such as "kernel time per exit, filtered".
    pub figure: String,
    /// What the samples are in.
    pub unit: Unit,
    /// The subjects; hostprobe first.
    pub series: Vec<Series>,
    /// What was to be reached, and what was.
    pub targets: Vec<Target>,
    /// What a reader has to know to understand the figure, such as where a gap comes from; empty if nothing.
    pub note: String,
}

/// The samples of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Whose they are, such as "hostprobe" or "exitsnoop".
    pub subject: String,
    /// The samples in short.
    pub summary: Summary,
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// It, such as "≤ 200 ns".
    pub wanted: String,
    /// What was reached of it, such as "183 ns".
    pub reached: String,
    /// Whether that is enough.
    pub met: bool,
}

/// What samples are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanoseconds,
    Percent,
    Bytes,
    PerSecond,
    Count,
    /// So many times something else.
    Times,
}

impl Unit {
    /// An amount of it as a person says it, in three digits.
    pub fn show(self, value: f64) -> String {
        let (value, unit) = match self {
            Self::Nanoseconds if value.abs() < 1e3 => (value, "ns"),
            Self::Nanoseconds if value.abs() < 1e6 => (value / 1e3, "µs"),
            Self::Nanoseconds if value.abs() < 1e9 => (value / 1e6, "ms"),
            Self::Nanoseconds => (value / 1e9, "s"),
            Self::Percent => (value, "%"),
            Self::Bytes if value.abs() < 1e6 => (value / 1e3, "kB"),
            Self::Bytes => (value / 1e6, "MB"),
            Self::PerSecond => (value, "/s"),
            Self::Count => (value, ""),
            Self::Times => (value, "×"),
        };
        let digits = match value.abs() {
            0.0 => 0,
            // A number of things is whole, however large.
            _ if self == Self::Count && value.fract() == 0.0 => 0,
            size if size < 0.1 => 3,
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        let number = grouped(&format!("{value:.digits$}"));
        format!("{number}{}{unit}", if matches!(unit, "" | "/s" | "×") { "" } else { " " })
    }
}

/// A number with its thousands apart.
fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, part) = number.find('.').map_or((number, ""), |dot| number.split_at(dot));
    let mut text = String::from(sign);
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + part
}

impl Row {
    /// A figure without samples yet.
    pub fn new(figure: &str, unit: Unit) -> Self {
        let (series, targets) = (Vec::new(), Vec::new());
        Self { figure: figure.to_owned(), unit, series, targets, note: String::new() }
    }

    /// Adds the samples of one; nothing if there are none.
    #[must_use]
    pub fn of(mut self, subject: &str, samples: &[f64]) -> Self {
        if let Some(summary) = Summary::of(samples) {
            self.series.push(Series { subject: subject.to_owned(), summary });
        }
        self
    }

    /// The samples of one in short.
    pub fn summary(&self, subject: &str) -> Option<&Summary> {
        let series = self.series.iter().find(|series| series.subject == subject)?;
        Some(&series.summary)
    }

    /// Adds a target that hostprobe's own figure is to stay at or below: such as its median, in the row's unit.
    #[must_use]
    pub fn at_most(self, what: &str, limit: f64, reached: impl Fn(&Summary) -> f64) -> Self {
        let Some(first) = self.series.first() else { return self };
        let (unit, reached) = (self.unit, reached(&first.summary));
        self.target(&format!("{what}≤ {}", unit.show(limit)), unit.show(reached), reached <= limit)
    }

    /// Adds a target that hostprobe's own figure is to reach: such as its median, in the row's unit.
    #[must_use]
    pub fn at_least(self, what: &str, limit: f64, reached: impl Fn(&Summary) -> f64) -> Self {
        let Some(first) = self.series.first() else { return self };
        let (unit, reached) = (self.unit, reached(&first.summary));
        self.target(&format!("{what}≥ {}", unit.show(limit)), unit.show(reached), reached >= limit)
    }

    /// Adds a target of another kind.
    #[must_use]
    pub fn target(mut self, wanted: &str, reached: String, met: bool) -> Self {
        self.targets.push(Target { wanted: wanted.to_owned(), reached, met });
        self
    }

    /// Adds the target that the median of a peer is at least so many times hostprobe's.
    #[must_use]
    pub fn times_less(self, peer: &str, times: f64) -> Self {
        let (Some(own), Some(other)) = (self.series.first(), self.summary(peer)) else { return self };
        let reached = other.median / own.summary.median;
        let wanted = format!("≥ {} less than {peer}", Unit::Times.show(times));
        self.target(&wanted, Unit::Times.show(reached), reached >= times)
    }

    /// Adds what a reader has to know.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_three_digits_and_the_unit_that_fits() {
        let shown = [
            Unit::Nanoseconds.show(183.4),
            Unit::Nanoseconds.show(18_900.0),
            Unit::Nanoseconds.show(2.17e9),
            Unit::Percent.show(0.084),
            Unit::Percent.show(-1.0),
            Unit::Bytes.show(19_300_000.0),
            Unit::PerSecond.show(212_345.6),
            Unit::Count.show(735_526.0),
            Unit::Times.show(50.0),
        ];
        let wanted =
            ["183 ns", "18.9 µs", "2.17 s", "0.084 %", "-1.00 %", "19.3 MB", "212,346/s", "735,526", "50.0×"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn targets_are_judged_by_the_figures() {
        let row = Row::new("kernel time per exit", Unit::Nanoseconds)
            .of("hostprobe", &[100.0, 300.0, 200.0])
            .of("exitsnoop", &[9_000.0])
            .at_most("", 200.0, |summary| summary.median)
            .at_most("max ", 200.0, |summary| summary.max)
            .times_less("exitsnoop", 50.0);
        let met: Vec<_> =
            row.targets.iter().map(|it| (it.wanted.as_str(), it.reached.as_str(), it.met)).collect();
        assert_eq!(
            met,
            [
                ("≤ 200 ns", "200 ns", true),
                ("max ≤ 200 ns", "300 ns", false),
                ("≥ 50.0× less than exitsnoop", "45.0×", false)
            ]
        );
    }
}
