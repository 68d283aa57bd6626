//! The table of unit states for docs/units.md.

use std::fmt::Write;

use super::{Course, Meaning, Mend, Phase, ROWS, Sort};

/// The lines of the page between which the table stands.
pub const START: &str = "<!-- unit states -->\n";
pub const END: &str = "<!-- end of unit states -->\n";

/// The table as Markdown.
pub fn markdown() -> String {
    let mut table =
        "| unit | systemd says | `Result=` | how it came | service | incident | why |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|\n");
    for row in ROWS {
        let unit = row.unit.map_or_else(
            || "any".to_owned(),
            |sorts| sorts.iter().map(|sort| unit_words(*sort)).collect::<Vec<_>>().join(", "),
        );
        let result = row.result.map_or_else(
            || "any".to_owned(),
            |results| results.iter().map(|result| format!("`{result}`")).collect::<Vec<_>>().join(", "),
        );
        let (service, incident) = meaning_words(row.meaning);
        let (phase, course) = (phase_words(row.phase), course_words(row.course));
        let why = row.because;
        let _ =
            writeln!(table, "| {unit} | {phase} | {result} | {course} | {service} | {incident} | {why} |");
    }
    table
}

const fn unit_words(sort: Sort) -> &'static str {
    match sort {
        Sort::LongRunning => "long-running",
        Sort::Oneshot => "oneshot",
        Sort::Scheduled => "triggered by a timer or path",
        Sort::Activated => "triggered by a socket or a bus name",
        Sort::Container => "container",
    }
}

const fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Masked => "masked, and down",
        Phase::NotLoaded => "not-found, bad-setting, error",
        Phase::Starting => "activating",
        Phase::Restarting => "activating (auto-restart)",
        Phase::Up => "active, reloading",
        Phase::Finished => "active (exited)",
        Phase::Stopping => "deactivating",
        Phase::Down => "inactive, failed",
    }
}

const fn course_words(course: Course) -> &'static str {
    match course {
        Course::Any => "",
        Course::TakenDown => "a unit that it needs failed",
        Course::Asked => "a stop job, or it left the active state before its main process ended",
        Course::Skipped => "its latest start was skipped",
        Course::NeverRan => "never started",
        Course::NotReady => "before it was ready",
        Course::NoMain => "before its main process was started",
    }
}

fn meaning_words(meaning: Meaning) -> (&'static str, String) {
    match meaning {
        Meaning::Runs => ("as its probes say", String::new()),
        Meaning::Starting => ("`starting`", String::new()),
        Meaning::Waits => ("as before", String::new()),
        Meaning::Done => ("`healthy` if active, else `stopped`", "ends".to_owned()),
        Meaning::Stopped => ("`stopped`", String::new()),
        Meaning::Fault(verdict, mend) => {
            let verdict = verdict.map_or("by the kernel's record", |verdict| verdict.as_str());
            let mend = match mend {
                Mend::Restart => "restart",
                Mend::Hold => "hold",
            };
            ("`down`", format!("{verdict}: {mend}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_units_has_the_table_of_their_states() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/units.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(START).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        let expected = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{START}{expected}{END}{after}")).unwrap();
            return;
        }
        assert_eq!(table, expected, "docs/units.md: UPDATE_DOCS=1 cargo test -p hostprobe --lib writes it");
    }
}
