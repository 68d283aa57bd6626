//! A file of variables for a command: a `NAME=value` a line, as in `/etc/default/`.
//!
//! Blank lines, and those that begin with `#` or `;`, are skipped. A value may be in quotes, which are removed. Nothing
//! is expanded, so a value means what it says.

/// A line by its number, and what is wrong with it. It never holds a value.
pub(super) type WrongLine = (usize, &'static str);

/// The variables in the order of the file, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Vec<WrongLine>> {
    let (mut variables, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        // Some editors begin a file with a byte order mark.
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match variable(line) {
            Ok((name, value)) => variables.push((name.to_owned(), value)),
            Err(wrong) => errors.push((number, wrong)),
        }
    }
    if errors.is_empty() { Ok(variables) } else { Err(errors) }
}

/// Whether a variable may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let has_first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    has_first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn variable(line: &str) -> Result<(&str, String), &'static str> {
    let (name, value) = line.split_once('=').ok_or("a line without `=`; expected NAME=value")?;
    if name.starts_with("export ") {
        return Err("`export` before the name; expected NAME=value, because no shell reads this file");
    }
    if !is_name(name) {
        return Err("a variable's name has other characters; expected letters, digits and underscores");
    }
    if value.contains('\0') {
        return Err("a value with a NUL character; expected one without");
    }
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => unquoted(&value[1..], quote)?,
        _ => value.to_owned(),
    };
    Ok((name, value))
}

/// The text up to the quote that ends it. In double quotes, a backslash keeps the next character from its meaning.
fn unquoted(text: &str, quote: char) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if quote == '"' => value.extend(chars.next()),
            end if end == quote && chars.as_str().is_empty() => return Ok(value),
            end if end == quote => return Err("text after the quote that ends the value; expected none"),
            other => value.push(other),
        }
    }
    Err("a quote that does not end in its line; expected the same quote at the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_they_are_written() {
        let text = "# comment\n; another\n\nA=1\r\nB = no\n";
        assert_eq!(
            parse(text),
            Err(vec![(
                5,
                "a variable's name has other characters; expected letters, digits and underscores"
            )])
        );
        let text = "\u{feff}A=1\r\n_B= two words \nC=\"a \\\"b\\\" $HOME\"\nD='x\\y'\nE=\nF=a\"b=c\n  G=#5\n";
        let expected = [
            ("A", "1"),
            ("_B", "two words"),
            ("C", "a \"b\" $HOME"),
            ("D", "x\\y"),
            ("E", ""),
            ("F", "a\"b=c"),
            ("G", "#5"),
        ];
        assert_eq!(parse(text).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn every_wrong_line_is_reported() {
        let wrong = parse("export A=1\nA\n=x\nA='b\nA=\"b\"c\nA=\"b\\\"\nA=b\0c\n").unwrap_err();
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert!(wrong[0].1.starts_with("`export` before the name"), "{wrong:?}");
        assert!(wrong[1].1.starts_with("a line without `=`"), "{wrong:?}");
    }
}
