//! The core dump of a process: the file that the kernel writes, or the one that `systemd-coredump` keeps.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use sdjournal::{Journal, JournalConfig, SdJournalError};

use super::image::Image;

/// `SD_MESSAGE_COREDUMP` of systemd's `sd-messages.h`.
const MESSAGE_ID: &[u8] = b"fc2e22bc6ee647b6b90729ab34a250b1";

/// How long between two looks into the journal: `systemd-coredump` writes there once it has the dump.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A file may have been made this much before the signal: its time is that of the kernel's latest tick.
const TICK: Duration = Duration::from_millis(20);

/// What a dump is named after.
#[derive(Clone, Debug)]
pub struct Dumped {
    pub pid: u32,
    /// Its pid in its own pid namespace.
    pub namespaced_pid: u32,
    pub signal: u8,
    pub user_id: u32,
    /// `comm` of the thread.
    pub name: String,
    pub at: SystemTime,
}

/// Where the kernel sends dumps (`core(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    File {
        template: String,
        adds_pid: bool,
    },
    Systemd,
    /// Another program, or nowhere.
    Elsewhere,
}

impl Pattern {
    pub fn read() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        let adds_pid = fs::read_to_string("/proc/sys/kernel/core_uses_pid").is_ok_and(|it| it.trim() != "0");
        Self::of(text.trim_end_matches('\n'), adds_pid)
    }

    fn of(text: &str, adds_pid: bool) -> Self {
        match text.strip_prefix('|') {
            Some(program) => {
                let program = program.split(' ').next().unwrap_or_default();
                if program.ends_with("/systemd-coredump") { Self::Systemd } else { Self::Elsewhere }
            }
            None if text.is_empty() => Self::Elsewhere,
            None => {
                let adds_pid = adds_pid && !text.contains("%p");
                Self::File { template: text.to_owned(), adds_pid }
            }
        }
    }
}

/// The dump of a process, if there is one by then. It blocks.
pub fn find(pattern: &Pattern, dumped: &Dumped, image: &Image, until: Instant) -> Option<String> {
    match pattern {
        Pattern::Elsewhere => None,
        Pattern::File { template, adds_pid } => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let began = dumped.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            // The kernel takes the time when it begins with the dump.
            [began, began + 1].into_iter().find_map(|seconds| {
                let mut path = expand(template, dumped, image.program_path(), seconds, &host)?;
                if *adds_pid {
                    path.push_str(&format!(".{}", dumped.namespaced_pid));
                }
                let path = match &image.directory {
                    _ if path.starts_with('/') => path,
                    Some(directory) => directory.join(path).to_str()?.to_owned(),
                    None => return None,
                };
                let file = image.open_path(&path)?;
                let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(
                    u64::try_from(file.metadata().ok()?.mtime()).ok()? + 1,
                ))?;
                (made + TICK >= dumped.at).then_some(path)
            })
        }
        Pattern::Systemd => loop {
            match in_journal(dumped) {
                Ok(Some(file)) => return Some(file),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("crash site: the journal cannot be searched for a core dump: {error}");
                    return None;
                }
            }
            if Instant::now() + LOOK_AGAIN > until {
                return None;
            }
            sleep(LOOK_AGAIN);
        },
    }
}

/// The file name of a template; None if it has a part that is not known.
fn expand(
    template: &str,
    dumped: &Dumped,
    program: Option<&str>,
    seconds: u64,
    host: &str,
) -> Option<String> {
    let mut path = String::new();
    let mut rest = template.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            path.push(character);
            continue;
        }
        match rest.next() {
            // A lone percent sign at the end is left out.
            None => {}
            Some('%') => path.push('%'),
            Some('p') => path.push_str(&dumped.namespaced_pid.to_string()),
            Some('P') => path.push_str(&dumped.pid.to_string()),
            Some('u') => path.push_str(&dumped.user_id.to_string()),
            Some('s') => path.push_str(&dumped.signal.to_string()),
            Some('t') => path.push_str(&seconds.to_string()),
            Some('h') => path.push_str(&named(host)),
            Some('e') => path.push_str(&named(&dumped.name)),
            Some('f') => path.push_str(&named(Path::new(program?).file_name()?.to_str()?)),
            Some('E') => path.push_str(&named(program?)),
            Some(_) => return None,
        }
    }
    Some(path)
}

/// A name as a part of a file name: the kernel replaces slashes.
fn named(name: &str) -> String {
    name.replace('/', "!")
}

fn in_journal(dumped: &Dumped) -> Result<Option<String>, SdJournalError> {
    let config = JournalConfig { max_decompressed_bytes: 64 << 10, ..JournalConfig::default() };
    let journal = Journal::open_default_with_config(config)?;
    let since = dumped.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut query = journal.query();
    query.match_exact("MESSAGE_ID", MESSAGE_ID);
    query.match_exact("COREDUMP_PID", dumped.pid.to_string().as_bytes());
    query.since_realtime(u64::try_from(since.as_micros()).unwrap_or_default()).limit(1);
    let Some(entry) = query.iter()?.next().transpose()? else { return Ok(None) };
    let file = entry.get("COREDUMP_FILENAME").map(String::from_utf8_lossy);
    // It may have kept none: the dump was too large, or its limit is 0.
    Ok(Some(file.map_or_else(|| format!("coredumpctl info {}", dumped.pid), Into::into)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped() -> Dumped {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Dumped { pid: 4711, namespaced_pid: 7, signal: 11, user_id: 33, name: "a/b".to_owned(), at }
    }

    #[test]
    fn a_pattern_is_a_file_or_a_program() {
        let file = |template: &str, adds_pid| Pattern::File { template: template.to_owned(), adds_pid };
        assert_eq!(Pattern::of("core", true), file("core", true));
        assert_eq!(Pattern::of("/var/core/%e.%p", true), file("/var/core/%e.%p", false));
        assert_eq!(Pattern::of("|/usr/lib/systemd/systemd-coredump %P %u", false), Pattern::Systemd);
        assert_eq!(Pattern::of("|/usr/share/apport/apport %p", false), Pattern::Elsewhere);
        assert_eq!(Pattern::of("", true), Pattern::Elsewhere);
    }

    #[test]
    fn a_template_is_expanded_as_the_kernel_does() {
        let expand = |template| expand(template, &dumped(), Some("/usr/bin/api"), 1_700_000_001, "box");
        assert_eq!(
            expand("/c/%e.%p.%P.%u.%s.%t.%h.%f.%E%%").as_deref(),
            Some("/c/a!b.7.4711.33.11.1700000001.box.api.!usr!bin!api%")
        );
        assert_eq!(expand("core%").as_deref(), Some("core"));
        assert_eq!(expand("core.%g"), None, "the group is not known");
    }
}
