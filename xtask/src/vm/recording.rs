//! Records a kernel's type information for the unit tests.

use std::{fmt::Write, fs};

use anyhow::{Context, Result};
use serde_json::Value;

use super::results::Results;
use crate::cargo::root;

const FOLDER: &str = "probe-user/src/sensor/ebpf/btf/recorded";

/// Writes the reduced type information, and beside it what the complete one resolves to.
pub fn write(results: &Results) -> Result<()> {
    let types = results
        .types
        .as_ref()
        .with_context(|| format!("kernel {}: no type information in the results", results.kernel))?;
    let bytes = types
        .get("types")
        .and_then(Value::as_str)
        .and_then(bytes)
        .context("no hexadecimal type information")?;
    let mut text = format!("# Linux {}\n", results.release());
    let globals = types.get("globals").and_then(Value::as_object).context("no globals in the results")?;
    for (name, value) in globals {
        writeln!(text, "{name} {value}")?;
    }
    for reason in types.get("unusable").and_then(Value::as_array).context("no hooks in the results")? {
        writeln!(text, "unusable {}", reason.as_str().unwrap_or_default())?;
    }
    let series: Vec<_> = results.release().split('.').take(2).collect();
    let file = root().join(FOLDER).join(series.join("."));
    for (end, content) in [("btf", bytes.as_slice()), ("txt", text.as_bytes())] {
        let path = file.with_added_extension(end);
        fs::create_dir_all(root().join(FOLDER))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Bytes in hexadecimal.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}
