//! The output of all commands: text for people, JSON, exit status.

use std::{fmt, io::Write as _, process::ExitCode};

use hostprobe::{
    config::ConfigErrors,
    escape::{escaped, escaped_json},
};

/// Exit status: bad usage or a bad configuration.
pub(super) const BAD_CONFIG: u8 = 2;
/// Exit status: rights or kernel features are missing.
pub(super) const NOT_POSSIBLE: u8 = 3;

/// Text for people. It is made of whole lines, so that a text from outside cannot begin a line of its own.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Adds a line. What a terminal would obey is shown as `\n`, `\u{1b}` and so on.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        self.text.push_str(&escaped(&line.to_string()));
        self.text.push('\n');
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A page of these lines.
    pub(super) fn of(lines: impl IntoIterator<Item: fmt::Display>) -> Self {
        let mut page = Self::default();
        lines.into_iter().for_each(|line| page.line(format_args!("{line}")));
        page
    }
}

/// Prints to standard output. A closed reader, such as `head`, is no error.
pub(super) fn print(page: &Page) -> ExitCode {
    print_bytes(page.text.as_bytes())
}

pub(super) fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_vec_pretty(value) {
        Ok(mut json) => {
            escaped_json(&mut json);
            json.push(b'\n');
            print_bytes(&json)
        }
        Err(error) => {
            complain(format_args!("hostprobe: answer: cannot be written as JSON: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a page whose texts are escaped already.
pub(super) fn print_html(page: &str) -> ExitCode {
    print_bytes(page.as_bytes())
}

/// Prints one line to standard error.
pub(super) fn complain(line: fmt::Arguments<'_>) {
    let mut page = Page::default();
    page.line(line);
    // There is no place left to report that standard error is closed.
    let _ = std::io::stderr().write_all(page.text.as_bytes());
}

/// Prints what is wrong with a configuration, a line each.
pub(super) fn complain_all(errors: &ConfigErrors) {
    errors.iter().for_each(|error| complain(format_args!("{error}")));
}

fn print_bytes(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(format_args!("hostprobe: standard output: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Such as `1 service`, `2 services`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The time between two moments in one unit; None if one of them is missing.
pub(super) fn ago(since: &str, until: &str) -> Option<String> {
    let (since, until) = (since.parse::<jiff::Timestamp>().ok()?, until.parse::<jiff::Timestamp>().ok()?);
    let ms = until.duration_since(since).as_millis().max(0);
    Some(match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    })
}
