//! The parts of an incident's summary, so that each can change by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One sentence when displayed, without the service's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The finding about the service itself.
    finding: String,
    /// Details, such as the holder of its port.
    details: Vec<String>,
    /// The largest holders of its connections.
    holders: Vec<String>,
    /// Why another service counts as the cause, and that service's summary.
    cause: Option<(String, String)>,
    /// Why it counts as a crash loop.
    crash_loop: Option<String>,
    /// The evidence that the stop was requested.
    request: Option<String>,
}

impl Summary {
    pub fn add(&mut self, detail: String) {
        self.details.push(detail);
    }

    pub fn set_holders(&mut self, holders: Vec<String>) {
        self.holders = holders;
    }

    pub fn set_crash_loop(&mut self, why: String) {
        self.crash_loop = Some(why);
    }

    pub fn set_request(&mut self, why: &str) {
        self.request = Some(why.to_owned());
    }

    pub fn caused_by(self, why: String, summary: String) -> Self {
        Self { cause: Some((why, summary)), ..self }
    }

    /// Its texts, some of which come from outside.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { finding, details, holders, cause, crash_loop, request } = self;
        let cause = cause.iter_mut().flat_map(|(why, summary)| [why, summary]);
        let single = [Some(finding), crash_loop.as_mut(), request.as_mut()].into_iter().flatten();
        single.chain(details).chain(holders).chain(cause)
    }

    /// The finding about the service itself, without its cause.
    pub fn of_itself(&self) -> Self {
        Self { cause: None, ..self.clone() }
    }
}

impl From<String> for Summary {
    fn from(finding: String) -> Self {
        Self { finding, ..Self::default() }
    }
}

impl From<&str> for Summary {
    fn from(finding: &str) -> Self {
        finding.to_owned().into()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(request) = &self.request {
            write!(f, "{request}; ")?;
        }
        if let Some(why) = &self.crash_loop {
            write!(f, "it fails again and again: {why}; last: ")?;
        }
        if let Some((why, summary)) = &self.cause {
            write!(f, "{why}: {summary}; here: ")?;
        }
        f.write_str(&self.finding)?;
        for detail in &self.details {
            write!(f, "; {detail}")?;
        }
        if !self.holders.is_empty() {
            write!(f, "; most are held: {}", self.holders.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_replaced_by_itself() {
        let mut summary = Summary::from("its probe failed: x; here: y; last: z");
        summary.add("port 80 is held by nginx".into());
        let mut blamed = summary.clone().caused_by("db has an incident".into(), "down; here: w".into());
        assert_eq!(
            blamed.to_string(),
            "db has an incident: down; here: w; here: its probe failed: x; here: y; last: z; port 80 is held by nginx"
        );
        assert_eq!(blamed.of_itself(), summary);
        blamed.set_crash_loop("once".into());
        blamed.set_crash_loop("twice".into());
        assert!(blamed.to_string().starts_with("it fails again and again: twice; last: db has"), "{blamed}");
    }

    #[test]
    fn holders_come_last() {
        let mut summary = Summary::from("none left");
        summary.set_holders(vec!["9 by a".into()]);
        summary.set_holders(vec!["8 by a".into(), "2 by b".into()]);
        assert_eq!(summary.to_string(), "none left; most are held: 8 by a; 2 by b");
    }
}
