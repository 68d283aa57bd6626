//! Prometheus' text format, version 0.0.4, made of OpenMetrics.

/// The same samples. The older format names a family as its samples are named, and has no type for information.
pub(super) fn from_openmetrics(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let words = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match words {
            Some(("HELP", rest)) => help = rest.split_once(' '),
            Some(("TYPE", rest)) => {
                let (family, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((_, text)) = help.take().filter(|(named, _)| *named == family) {
                    plain.push_str(&format!("# HELP {family}{suffix} {text}\n"));
                }
                plain.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
            }
            // Units, and the mark of the end.
            _ if line.starts_with('#') => {}
            _ => {
                plain.push_str(line);
                plain.push('\n');
            }
        }
    }
    plain
}
