//! The daemon's log on standard error: for the journal as systemd reads it, elsewhere for a person.
//!
//! Under systemd every line begins with its syslog priority (`sd-daemon(3)`), so that `journalctl -p warning` finds it,
//! and has no time of its own, since the journal adds one. All lines are escaped and free of known secrets.

mod stderr;

use std::{
    fmt,
    io::IsTerminal as _,
    os::fd::{AsFd, BorrowedFd},
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{escape::escaped, redact::redact};

/// Begins to write the log of this process, down to `level`.
///
/// # Panics
/// If the process has a log already.
pub fn init(level: Level) {
    let stderr = std::io::stderr();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_writer(|| stderr::Unhurried(std::io::stderr()))
        .with_ansi(stderr.is_terminal() && !no_color)
        .fmt_fields(Escaped)
        .with_max_level(level)
        .with_target(false);
    let journal = std::env::var("JOURNAL_STREAM").ok();
    if journal.is_some_and(|journal| is_stream(stderr.as_fd(), &journal)) {
        log.with_ansi(false).event_format(Prioritized).finish().with(filter_fn(is_ours)).init();
    } else {
        log.finish().with(filter_fn(is_ours)).init();
    }
}

/// Whether a line belongs into the log. The client of NATS logs each refusal of the server, as often as a message is refused;
/// the fleet says it once a minute.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("async_nats") || *metadata.level() <= Level::WARN
}

/// Whether a descriptor is the stream that `$JOURNAL_STREAM` names by device and inode (`systemd.exec(5)`). A child whose
/// output was redirected inherits the variable, but not the stream.
fn is_stream(descriptor: BorrowedFd<'_>, journal: &str) -> bool {
    let Some((device, inode)) = journal.split_once(':') else { return false };
    rustix::fs::fstat(descriptor)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// One line an event: `<4>message key=value`.
struct Prioritized;

impl<S, N> FormatEvent<S, N> for Prioritized
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The text and the fields of a line. A terminal would obey control characters, and the journal would read the text
/// after a line feed as a new message with the default priority.
struct Escaped;

impl<'writer> FormatFields<'writer> for Escaped {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&escaped(&redact(&text)))
    }
}

/// The syslog priority of a level: `LOG_ERR`, `LOG_WARNING`, `LOG_INFO` or `LOG_DEBUG` (`syslog(3)`).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_for_the_journal_is_its_priority_and_its_text() {
        let page = Page::default();
        let to = page.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .with_max_level(Level::INFO)
            .fmt_fields(Escaped)
            .event_format(Prioritized)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!("web: incident a-i1 opened: killed");
            tracing::warn!(attempt = 2, "web: restart held:\n<0>every\u{1b}[31mone");
            tracing::info!("web: restarted");
            tracing::debug!("not shown");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "<3>web: incident a-i1 opened: killed");
        assert!(lines[1].starts_with(r"<4>web: restart held:\n<0>every"), "{text}");
        assert!(!text.contains('\u{1b}') && lines[1].ends_with("attempt=2"), "{text}");
        assert_eq!(lines[2], "<6>web: restarted");
    }

    #[test]
    fn the_journal_is_recognized_by_device_and_inode() {
        let file = File::open("/dev/null").unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(is_stream(file.as_fd(), &format!("{}:{}", stat.st_dev, stat.st_ino)));
        assert!(!is_stream(file.as_fd(), &format!("{}:{}", stat.st_dev, stat.st_ino + 1)));
        assert!(!is_stream(file.as_fd(), "") && !is_stream(file.as_fd(), "8:x"));
    }
}
