//! The results of the checks in one kernel.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

/// The name of the kernel that this host runs.
pub const HOST: &str = "host";

#[derive(Default)]
pub struct Run {
    /// Standard output of the checks.
    pub lines: Vec<String>,
    /// Failures of the run itself, which may leave lines out.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// This kernel does not have the tracepoint, and hostprobe reports that.
    Absent,
    /// The check cannot run here.
    NotTried,
    Failed,
}

pub struct Check {
    pub name: String,
    pub outcome: Outcome,
    /// What the check observed, or the reason of its outcome.
    pub detail: String,
}

pub struct Results {
    /// The name on the command line.
    pub kernel: String,
    /// As `uname` returns it.
    pub release: Option<String>,
    pub checks: Vec<Check>,
    /// The report of `hostprobe doctor`.
    pub doctor: Option<String>,
    /// Failures of the run itself.
    pub faults: Vec<String>,
    /// Type information, if it is to be recorded.
    pub types: Option<Value>,
}

impl Results {
    pub fn of(kernel: &str, run: Result<Run>) -> Self {
        let run = run.unwrap_or_else(|error| Run { lines: Vec::new(), faults: vec![format!("{error:#}")] });
        let mut results = Self {
            kernel: kernel.to_owned(),
            release: None,
            checks: Vec::new(),
            doctor: None,
            faults: run.faults,
            types: None,
        };
        for line in run.lines {
            results.add_line(&line);
        }
        if results.checks.is_empty() && results.faults.is_empty() {
            results.faults.push("the checks printed nothing".to_owned());
        }
        results
    }

    fn add_line(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            self.faults.push(format!("not a result of a check: {line}"));
            return;
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        if value.get("types").is_some() {
            self.types = Some(value);
        } else if let Some(name) = text("check") {
            let outcome = match text("outcome").as_deref() {
                Some("ok") => Outcome::Passed,
                Some("absent") => Outcome::Absent,
                Some("not tried") => Outcome::NotTried,
                Some(_) | None => Outcome::Failed,
            };
            self.checks.push(Check { name, outcome, detail: text("detail").unwrap_or_default() });
        } else if let Some(doctor) = text("doctor") {
            self.doctor = Some(doctor);
        } else if let Some(release) = text("kernel") {
            self.release = Some(release);
        } else {
            self.faults.push(text("ended").unwrap_or_else(|| line.to_owned()));
        }
    }

    /// Its release, or the name on the command line.
    pub fn release(&self) -> &str {
        self.release.as_deref().unwrap_or(&self.kernel)
    }

    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|it| it.name == name)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |outcome| self.checks.iter().filter(|it| it.outcome == outcome).count();
        write!(f, "{}: {} checks passed", self.release(), count(Outcome::Passed))?;
        for (outcome, word) in
            [(Outcome::Absent, "absent"), (Outcome::NotTried, "not tried"), (Outcome::Failed, "FAILED")]
        {
            if count(outcome) > 0 {
                write!(f, ", {} {word}", count(outcome))?;
            }
        }
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}
