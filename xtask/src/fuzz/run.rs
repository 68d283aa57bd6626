//! One run of one fuzzer.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::cargo::root;

/// The variable that names the fuzzer to the program that has all of them.
pub const CHOICE: &str = "HOSTPROBE_FUZZER";

/// An input that takes longer is a finding. The slowest of a good input takes some milliseconds.
const TIMEOUT_SECONDS: u32 = 10;

/// So is one for which the program takes more memory than this, all in all or in a single allocation. Nothing that is
/// read is longer than 16 MiB, and a probe reads 1 MiB.
const MEMORY_MIB: u32 = 1024;
const ALLOCATION_MIB: u32 = 64;

/// The lines that are printed of a run that found something.
const WORDS: usize = 60;

/// What a fuzzer did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub target: String,
    pub program: PathBuf,
    pub executions: u64,
    /// The edges of the control flow that were reached.
    pub edges: u64,
    /// The inputs that reach something each.
    pub inputs: u64,
    pub slowest_seconds: u64,
    pub peak_mib: u64,
    pub finding: Option<Finding>,
}

/// A crash, a hang, or too much memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The path of the input.
    pub input: Option<String>,
    /// What the program printed last.
    pub words: String,
}

/// Runs a fuzzer on the seeds and on what earlier runs found.
pub fn run(target: &str, program: &Path, seconds: u32) -> Result<Outcome> {
    let (grown, artifacts) = (folder("corpus", target)?, folder("artifacts", target)?);
    let seeds = root().join("fuzz/seeds").join(target);
    let dictionary = seeds.with_extension("dict");
    let mut command = Command::new(program);
    command.env(CHOICE, target);
    command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // New inputs go to the first folder.
    command.arg(grown).arg(seeds);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    for (option, value) in [
        ("max_total_time", seconds),
        ("timeout", TIMEOUT_SECONDS),
        ("rss_limit_mb", MEMORY_MIB),
        ("malloc_limit_mb", ALLOCATION_MIB),
        ("print_final_stats", 1),
        ("reload", 0),
        // A thread that has just begun, or is about to end, counts as a leak.
        ("detect_leaks", 0),
    ] {
        command.arg(format!("-{option}={value}"));
    }
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let mut running = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let mut log = Log::default();
    if let Some(output) = running.stderr.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            log.add(&String::from_utf8_lossy(&line));
        }
    }
    let status = running.wait().with_context(|| format!("cannot wait for {}", program.display()))?;
    Ok(log.outcome(target, program, status.success()))
}

/// Creates a folder for what a fuzzer leaves.
fn folder(name: &str, target: &str) -> io::Result<PathBuf> {
    let folder = root().join("fuzz").join(name).join(target);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What a fuzzer prints.
#[derive(Debug, Default)]
struct Log {
    outcome: Outcome,
    input: Option<String>,
    last: VecDeque<String>,
}

impl Log {
    fn add(&mut self, line: &str) {
        let outcome = &mut self.outcome;
        if let Some(rest) = line.strip_prefix('#') {
            // #4096 NEW cov: 812 ft: 1543 corp: 60/2345b lim: 43 exec/s: 1212 rss: 80Mb
            outcome.executions = number(rest).unwrap_or(outcome.executions);
            outcome.edges = after(rest, " cov: ").unwrap_or(outcome.edges);
            outcome.inputs = after(rest, " corp: ").unwrap_or(outcome.inputs);
            return;
        }
        let statistic = |name| after(line, name).filter(|_| line.starts_with("stat::"));
        outcome.executions = statistic("executed_units: ").unwrap_or(outcome.executions);
        outcome.slowest_seconds = statistic("slowest_unit_time_sec: ").unwrap_or(outcome.slowest_seconds);
        outcome.peak_mib = statistic("peak_rss_mb: ").unwrap_or(outcome.peak_mib);
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some(path.trim().to_owned());
        }
        if self.last.len() == WORDS {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    fn outcome(mut self, target: &str, program: &Path, is_good: bool) -> Outcome {
        target.clone_into(&mut self.outcome.target);
        program.clone_into(&mut self.outcome.program);
        let words = Vec::from(self.last).join("\n");
        // A slow input is written too, and the fuzzer goes on.
        self.outcome.finding = (!is_good).then_some(Finding { input: self.input, words });
        self.outcome
    }
}

fn after(line: &str, name: &str) -> Option<u64> {
    number(line.split_once(name)?.1)
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], is_good: bool) -> Outcome {
        let mut log = Log::default();
        lines.iter().for_each(|line| log.add(line));
        log.outcome("text", Path::new("/p/text"), is_good)
    }

    #[test]
    fn the_lines_of_a_good_run_are_added_up() {
        let outcome = read(
            &[
                "INFO: Running with entropic power schedule (0xFF, 100).",
                "#2\tINITED cov: 800 ft: 801 corp: 1/1b exec/s: 0 rss: 60Mb",
                "#4096\tpulse  cov: 812 ft: 1543 corp: 60/2345b lim: 43 exec/s: 1212 rss: 80Mb",
                "#5000\tDONE   cov: 815 ft: 1550 corp: 61/2345b lim: 43 exec/s: 1212 rss: 80Mb",
                "stat::number_of_executed_units: 5001",
                "stat::slowest_unit_time_sec:    2",
                "stat::peak_rss_mb:              93",
            ],
            true,
        );
        assert_eq!((outcome.executions, outcome.edges, outcome.inputs), (5001, 815, 61));
        assert_eq!((outcome.slowest_seconds, outcome.peak_mib, outcome.finding), (2, 93, None));
    }

    #[test]
    fn a_crash_has_its_input_and_its_last_words() {
        let outcome = read(
            &[
                "thread '<unnamed>' panicked at src/x.rs:1:1:",
                "artifact_prefix='/a/'; Test unit written to /a/crash-1",
            ],
            false,
        );
        let finding = outcome.finding.unwrap();
        assert_eq!(finding.input.as_deref(), Some("/a/crash-1"));
        assert!(finding.words.starts_with("thread '<unnamed>' panicked"), "{}", finding.words);
    }
}
