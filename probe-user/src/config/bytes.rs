//! Bytes as a text with escapes: what a probe sends and expects.

use schemars::Schema;

use super::values::{Written, pattern};

/// A text in which `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN` are single bytes, and `${NAME}` is a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Variable(String),
}

/// Bytes with their variables put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) bytes: Vec<u8>,
    /// As it is written, with the names of the variables.
    pub(super) shown: String,
    /// The values of the variables.
    pub(super) inserted: Vec<String>,
}

impl Written for Bytes {
    const EXPECTED: &'static str = "a text in which only `r`, `n`, `t`, `0`, `\\` and `xNN` may follow a `\\`, and only \
                                    ${NAME} a `$` with a brace";

    fn read(text: &str) -> Option<Self> {
        let (mut parts, mut bytes, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(at) = rest.find(['\\', '$']) {
            bytes.extend(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("${") {
                let (name, after) = after.split_once('}')?;
                let is_name = !name.is_empty()
                    && !name.starts_with(|char: char| char.is_ascii_digit())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if !is_name {
                    return None;
                }
                parts.push(Part::Bytes(std::mem::take(&mut bytes)));
                parts.push(Part::Variable(name.to_owned()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('$') {
                bytes.push(b'$');
                rest = after;
            } else {
                let (byte, length) = escape(&rest[1..])?;
                bytes.push(byte);
                rest = &rest[1 + length..];
            }
        }
        bytes.extend(rest.as_bytes());
        parts.push(Part::Bytes(bytes));
        Some(Self { written: text.to_owned(), parts })
    }

    fn schema() -> Schema {
        // Without a lookahead, which not every editor can.
        let escape = r"\\(?:[rnt0\\]|x[0-9A-Fa-f]{2})";
        pattern(&format!(r"(?:[^$\\]|{escape}|\$+\{{[A-Za-z_][A-Za-z0-9_]*\}}|\$+[^${{\\]|\$+{escape})*\$*"))
    }
}

/// The byte of the escape that a text begins with, behind its backslash, and the length of the escape.
fn escape(text: &str) -> Option<(u8, usize)> {
    let byte = match text.as_bytes().first()? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b'\\' => b'\\',
        b'x' => {
            let digits =
                text.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            return Some((u8::from_str_radix(digits, 16).ok()?, 3));
        }
        _ => return None,
    };
    Some((byte, 1))
}

impl Bytes {
    /// The bytes with their variables put in as they are, or the name of an unset variable.
    pub(super) fn fill(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Filled, String> {
        let mut filled = Filled { bytes: Vec::new(), shown: self.written.clone(), inserted: Vec::new() };
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => filled.bytes.extend(bytes),
                Part::Variable(name) => {
                    let value =
                        variable(name).filter(|value| !value.is_empty()).ok_or_else(|| name.clone())?;
                    filled.bytes.extend(value.as_bytes());
                    filled.inserted.push(value);
                }
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, String> {
        let variable = |name: &str| (name == "PW").then(|| r"p\n$".to_owned());
        Bytes::read(text).unwrap().fill(&variable).map(|filled| filled.bytes)
    }

    #[test]
    fn escapes_are_bytes_and_variables_are_put_in_as_they_are() {
        assert_eq!(bytes(r"PING\r\n"), Ok(b"PING\r\n".to_vec()));
        assert_eq!(bytes("PING\r\n"), Ok(b"PING\r\n".to_vec()), "of a basic string of TOML");
        assert_eq!(bytes(r"\x1b\xFF\0\t\\n"), Ok(b"\x1b\xff\0\t\\n".to_vec()));
        assert_eq!(bytes("ä$ $$1"), Ok("ä$ $$1".as_bytes().to_vec()));
        assert_eq!(bytes("AUTH ${PW}\n$${PW}"), Ok(b"AUTH p\\n$\n$p\\n$".to_vec()));
        assert_eq!(bytes("${GONE}"), Err("GONE".to_owned()));
        for wrong in [r"\", r"\e", r"\x1", r"\x1ä", r"\xg1", "${", "${}", "${1}", "${a b}"] {
            assert_eq!(Bytes::read(wrong), None, "{wrong}");
        }
    }
}
