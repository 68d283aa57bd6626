//! What the checks said of one kernel.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

/// The name of the kernel that this host runs.
pub const HOST: &str = "host";

/// The lines of a run, and what went wrong beside them.
#[derive(Default)]
pub struct Run {
    /// All that was said on the way meant for it.
    pub lines: Vec<String>,
    /// Why there may be too few.
    pub complaints: Vec<String>,
}

/// What became of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As promised.
    Kept,
    /// This kernel has no such place to listen at, and hostprobe says so.
    Absent,
    /// Nothing was tried here.
    NotTried,
    /// Not as promised.
    Broken,
}

/// One check.
pub struct Check {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was seen, or why.
    pub detail: String,
}

/// All that is known of one kernel.
pub struct Results {
    /// What it is called here.
    pub kernel: String,
    /// Its own word on what it is.
    pub release: Option<String>,
    /// The checks in their order.
    pub checks: Vec<Check>,
    /// What `hostprobe doctor` says there.
    pub doctor: Option<String>,
    /// What went wrong beside them.
    pub complaints: Vec<String>,
    /// Its recorded type information, if that was asked for.
    pub types: Option<Value>,
}

impl Results {
    /// Reads what was said.
    pub fn of(kernel: &str, run: Result<Run>) -> Self {
        let run =
            run.unwrap_or_else(|error| Run { lines: Vec::new(), complaints: vec![format!("{error:#}")] });
        let mut results = Self {
            kernel: kernel.to_owned(),
            release: None,
            checks: Vec::new(),
            doctor: None,
            complaints: run.complaints,
            types: None,
        };
        for line in run.lines {
            results.take(&line);
        }
        if results.checks.is_empty() && results.complaints.is_empty() {
            results.complaints.push("nothing was said".to_owned());
        }
        results
    }

    fn take(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            self.complaints.push(format!("not a line of the checks: {line}"));
            return;
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        if value.get("types").is_some() {
            self.types = Some(value);
        } else if let Some(name) = text("check") {
            let outcome = match text("outcome").as_deref() {
                Some("ok") => Outcome::Kept,
                Some("absent") => Outcome::Absent,
                Some("not tried") => Outcome::NotTried,
                Some(_) | None => Outcome::Broken,
            };
            self.checks.push(Check { name, outcome, detail: text("detail").unwrap_or_default() });
        } else if let Some(doctor) = text("doctor") {
            self.doctor = Some(doctor);
        } else if let Some(release) = text("kernel") {
            self.release = Some(release);
        } else {
            self.complaints.push(text("ended").unwrap_or_else(|| line.to_owned()));
        }
    }

    /// Its release, or what it is called here.
    pub fn release(&self) -> &str {
        self.release.as_deref().unwrap_or(&self.kernel)
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|it| it.name == name)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |outcome| self.checks.iter().filter(|it| it.outcome == outcome).count();
        write!(f, "{}: {} checks kept", self.release(), count(Outcome::Kept))?;
        for (outcome, word) in
            [(Outcome::Absent, "absent"), (Outcome::NotTried, "not tried"), (Outcome::Broken, "BROKEN")]
        {
            if count(outcome) > 0 {
                write!(f, ", {} {word}", count(outcome))?;
            }
        }
        self.complaints.iter().try_for_each(|complaint| write!(f, "; {complaint}"))
    }
}
