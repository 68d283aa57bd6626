//! systemd's journal as a destination, by its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): an entry is a datagram of fields.
//!
//! The message of an event is that of the entry, its level the priority, and each of its fields a field: `incident.verdict`
//! is `INCIDENT_VERDICT`. `HOSTPROBE_EVENT` has the whole event.

use std::{io, os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use serde_json::Value;

use super::destination::Destination;

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long the journal may take no entry.
const WRITE: Duration = Duration::from_secs(30);

/// The journal refuses longer names of fields.
const NAME_MAX: usize = 64;

/// The most elements of a list that become fields: a field may be there several times.
const ELEMENTS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { path: SOCKET.into(), socket: None }
    }
}

impl Journal {
    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket.set_write_timeout(Some(WRITE))?;
                socket
            }
        };
        // After an error, the journal may have started again, with another socket.
        socket.send(entry)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Destination for Journal {
    fn name(&self) -> String {
        "journald".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let end = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
        self.send(&entry(lines[..end].trim_ascii_end()))?;
        Ok(end)
    }
}

/// The entry of an event.
fn entry(line: &[u8]) -> Vec<u8> {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    let priority = match text("/log/level") {
        Some("error") => "3",
        Some("warn") => "4",
        _ => "6",
    };
    let mut entry = Vec::with_capacity(2 * line.len());
    add(&mut entry, "MESSAGE", text("/message").unwrap_or("an event").as_bytes());
    add(&mut entry, "PRIORITY", priority.as_bytes());
    add(&mut entry, "SYSLOG_IDENTIFIER", b"hostprobe-events");
    add(&mut entry, "HOSTPROBE_EVENT", line);
    add_all(&mut entry, &mut String::new(), &event);
    entry
}

/// Adds what an event has below a name, but for its message.
fn add_all(entry: &mut Vec<u8>, name: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let before = name.len();
            for (key, value) in fields.iter().filter(|(key, _)| before > 0 || *key != "message") {
                if before > 0 {
                    name.push('_');
                }
                name.extend(key.chars().filter_map(in_name));
                add_all(entry, name, value);
                name.truncate(before);
            }
        }
        Value::Array(elements) => {
            // An element with fields of its own has no place in a field.
            let plain = elements.iter().filter(|element| !element.is_object() && !element.is_array());
            plain.take(ELEMENTS_MAX).for_each(|element| add_all(entry, name, element));
        }
        Value::String(text) => add(entry, name, text.as_bytes()),
        Value::Bool(_) | Value::Number(_) => add(entry, name, value.to_string().as_bytes()),
        Value::Null => {}
    }
}

/// A character as the name of a field may have it.
fn in_name(char: char) -> Option<char> {
    match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Some(char.to_ascii_uppercase()),
        '_' | '.' | '-' => Some('_'),
        // `@timestamp` is `TIMESTAMP`.
        _ => None,
    }
}

fn add(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with(|first: char| !first.is_ascii_uppercase())
    {
        return;
    }
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_becomes_an_entry_with_its_fields() {
        let line = br#"{"@timestamp":"t","message":"cache: gone","log":{"level":"error"},"incident":{"id":"i1","evidence":["a","b"],"timing":{"decided_ms":1.5}},"labels":{"9x":"no"},"coverage":[{"hook":"h"}],"error":{"message":"a\nMESSAGE=forged"}}"#;
        let entry = entry(line);
        let text = String::from_utf8_lossy(&entry);
        for field in [
            "MESSAGE=cache: gone\n",
            "PRIORITY=3\n",
            "TIMESTAMP=t\n",
            "LOG_LEVEL=error\n",
            "INCIDENT_ID=i1\n",
            "INCIDENT_EVIDENCE=a\nINCIDENT_EVIDENCE=b\n",
            "INCIDENT_TIMING_DECIDED_MS=1.5\n",
            "LABELS_9X=no\n",
        ] {
            assert!(text.contains(field), "{field} in {text}");
        }
        assert!(!text.contains("COVERAGE"), "{text}");
        // A line feed in a value does not begin a field.
        let forged = b"ERROR_MESSAGE\n\x10\0\0\0\0\0\0\0a\nMESSAGE=forged\n";
        assert!(entry.windows(forged.len()).any(|window| window == forged), "{text}");
        assert_eq!(text.matches("\nMESSAGE=").count() + usize::from(text.starts_with("MESSAGE=")), 2);
    }

    #[test]
    fn what_is_no_event_is_an_entry_all_the_same() {
        assert!(entry(b"\xff").starts_with(b"MESSAGE=an event\nPRIORITY=6\n"));
    }

    #[test]
    fn a_journal_that_starts_again_gets_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut journal = Journal { path: path.clone(), socket: None };
        assert!(journal.write(b"{}\n").is_err());
        let mut buffer = [0; 1000];
        for _ in 0..2 {
            let receiver = UnixDatagram::bind(&path).unwrap();
            assert_eq!(journal.write(b"{\"message\":\"a\"}\nmore").unwrap(), 16);
            let got = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..got].starts_with(b"MESSAGE=a\n"));
            std::fs::remove_file(&path).unwrap();
            drop(receiver);
            assert!(journal.write(b"{}\n").is_err(), "its former socket is gone");
        }
    }
}
