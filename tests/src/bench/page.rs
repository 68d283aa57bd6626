//! All sections as a record in JSON, a page in Markdown, and the few figures that the README quotes.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    TASKS, plot,
    section::{Row, Section, Target},
};

/// The lines in the README that the table stands between.
const BEGIN: &str = "<!-- numbers: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of numbers -->";

/// The figures that the README quotes, each with its section. Names alone repeat: two sections measure memory.
const HEADLINES: [(&str, &str); 5] = [
    ("kernel", "kernel time per exit with code 0, filtered"),
    ("latency", "death → line read, from the kernel's record of the death"),
    ("recovery", "SIGKILL → healthy again"),
    ("hang", "accepts, never answers → healthy again"),
    ("idle", "CPU of one core, 10 services probed every second"),
];

/// What was measured, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub machine: Machine,
    /// The sections, in the order of the tasks.
    pub sections: Vec<Section>,
}

/// The machine the figures are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The release of its kernel.
    pub kernel: String,
    /// The model of its CPUs.
    pub cpu: String,
    pub cpus: usize,
    pub memory_gib: u64,
    pub distribution: String,
}

impl Machine {
    pub fn this() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let value = |text: &str, key: &str, separator: char| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(separator));
            line.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo")?, "MemTotal", ':');
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: value(&read("/proc/cpuinfo")?, "model name", ':'),
            cpus: std::thread::available_parallelism()?.get(),
            memory_gib: kib.div_ceil(1 << 20),
            distribution: value(&read("/etc/os-release")?, "PRETTY_NAME", '='),
        })
    }
}

impl Record {
    /// What earlier runs left in a folder, with what this one measured in its place.
    pub fn merged(docs: &Path, measured: Vec<Section>) -> Result<Self> {
        let path = docs.join("numbers.json");
        let mut sections = match fs::read(&path) {
            Ok(json) => {
                let earlier: Self = serde_json::from_slice(&json)
                    .with_context(|| format!("{} is not a record of figures; remove it", path.display()))?;
                earlier.sections
            }
            Err(_) => Vec::new(),
        };
        sections.retain(|earlier| measured.iter().all(|new| new.name != earlier.name));
        sections.extend(measured);
        let place = |section: &Section| TASKS.iter().position(|task| task.name == section.name);
        sections.retain(|section| place(section).is_some());
        sections.sort_by_key(place);
        Ok(Self { machine: Machine::this()?, sections })
    }

    /// Writes it, its page and its plots into a folder, and its table into the README.
    pub fn write(&self, docs: &Path, readme: &Path) -> Result<()> {
        let write = |path: &Path, text: &str| {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write(&docs.join("numbers.json"), &(serde_json::to_string_pretty(self)? + "\n"))?;
        write(&docs.join("numbers.md"), &self.page())?;
        let plots = docs.join("numbers");
        fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
        for section in &self.sections {
            plot::section(section, &plots.join(format!("{}.svg", section.name)))?;
        }
        let text = fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
        let quoted = quote(&text, &self.headlines());
        write(
            readme,
            &quoted.with_context(|| format!("{} has no lines {BEGIN} and {END}", readme.display()))?,
        )
    }

    pub fn page(&self) -> String {
        let Machine { kernel, cpu, cpus, memory_gib, distribution } = &self.machine;
        let mut page = format!(
            "# Numbers\n\nWhat hostprobe costs and how fast it is, beside what a user would run instead. Measured and \
             written by `cargo xtask bench`, on {distribution}, Linux {kernel}, {cpus} × {cpu}, {memory_gib} GiB, in \
             release builds and with peers from the distribution's packages. What is compared was measured in one run, \
             in turn. The same figures for programs are in [numbers.json](numbers.json).\n\n## In short\n\n{}\n## All \
             figures\n\n{}",
            self.headlines(),
            self.table()
        );
        for section in &self.sections {
            let Section { name, title, method, rows, further, unmeasured } = section;
            let _ = write!(page, "\n## {title}\n\n{method}\n\n");
            if plot::shows(section) {
                let _ = write!(page, "![{title}](numbers/{name}.svg)\n\n");
            }
            if !rows.is_empty() {
                page.push_str("| figure | of | median | quartiles | p99 | least – most | samples |\n");
                page.push_str("|---|---|---:|---:|---:|---:|---:|\n");
            }
            rows.iter().for_each(|row| details(&mut page, row));
            for row in rows.iter().filter(|row| !row.note.is_empty()) {
                let _ = write!(page, "\n*{}*: {}\n", row.figure, row.note);
            }
            page.push_str(further);
            for reason in unmeasured {
                let _ = write!(page, "\nNot measured: {reason}\n");
            }
        }
        page
    }

    /// A line for each figure.
    pub fn table(&self) -> String {
        table(self.sections.iter().flat_map(|section| &section.rows))
    }

    /// A line for each figure that the README quotes.
    pub fn headlines(&self) -> String {
        table(HEADLINES.iter().filter_map(|(section, figure)| {
            let section = self.sections.iter().find(|it| it.name == *section)?;
            section.rows.iter().find(|row| row.figure == *figure)
        }))
    }
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut table =
        String::from("| figure | hostprobe | beside it | target | reached |\n|---|---:|---|---|---|\n");
    rows.for_each(|row| line(&mut table, row));
    table
}

/// The medians of a figure, and its targets.
fn line(table: &mut String, row: &Row) {
    let Some((own, peers)) = row.series.split_first() else { return };
    let median = |series: &super::section::Series| row.unit.show(series.summary.median);
    let peers: Vec<String> = peers.iter().map(|peer| format!("{} {}", peer.subject, median(peer))).collect();
    let part = |part: fn(&Target) -> String| row.targets.iter().map(part).collect::<Vec<_>>().join("; ");
    let _ = writeln!(
        table,
        "| {} | {} | {} | {} | {} |",
        row.figure,
        if own.subject == "hostprobe" { median(own) } else { format!("{} {}", own.subject, median(own)) },
        peers.join("; "),
        part(|target| target.wanted.clone()),
        part(|target| format!("{}{}", if target.met { "" } else { "**missed**: " }, target.reached)),
    );
}

fn details(page: &mut String, row: &Row) {
    for (at, series) in row.series.iter().enumerate() {
        let it = &series.summary;
        // One sample has no spread.
        let show = |value| if it.count > 1 { row.unit.show(value) } else { String::new() };
        let dash = if it.count > 1 { " – " } else { "" };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {}{dash}{} | {} | {}{dash}{} | {} |",
            if at == 0 { &row.figure } else { "" },
            series.subject,
            row.unit.show(it.median),
            show(it.p25),
            show(it.p75),
            show(it.p99),
            show(it.min),
            show(it.max),
            it.count
        );
    }
}

/// A text with the table between its two lines; None if it does not have them.
fn quote(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::section::Unit;

    #[test]
    fn the_readme_quotes_the_table_and_keeps_the_rest() {
        let row = Row::new("kernel time per exit", Unit::Nanoseconds)
            .of("hostprobe", &[183.0])
            .of("exitsnoop", &[18_900.0])
            .at_most("", 150.0, |summary| summary.median);
        let mut table = String::new();
        line(&mut table, &row);
        assert_eq!(
            table,
            "| kernel time per exit | 183 ns | exitsnoop 18.9 µs | ≤ 150 ns | **missed**: 183 ns |\n"
        );
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(quote(&readme, &table), Some(format!("before\n{BEGIN}\n{table}{END}\nafter\n")));
        assert_eq!(quote("no such lines", &table), None);
    }

    #[test]
    fn the_recorded_figures_have_all_that_the_readme_quotes() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let record: Record = serde_json::from_slice(&fs::read(docs.join("numbers.json")).unwrap()).unwrap();
        let headlines = record.headlines();
        assert_eq!(headlines.lines().count(), 2 + HEADLINES.len(), "{headlines}");
        assert!(record.page().contains(&headlines));
    }
}
