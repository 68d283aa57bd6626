//! The configuration and its files of variables: any text is accepted, or refused with a place, and no message has the value of a variable.
use std::path::Path;

use hostprobe::config::fuzz::{check, environment};

/// What the environment has. It stands for every secret.
const VALUE: &str = "Zq7!vX@9/%k";

pub fn fuzz(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match environment(text) {
        Ok(variables) => {
            for (name, value) in variables {
                assert!(!name.contains(['=', '\0']) && !value.contains('\0'), "{name}={value}");
            }
        }
        Err(lines) => assert!(lines.iter().all(|line| (1..=text.lines().count()).contains(line))),
    }
    match check(text, VALUE) {
        Ok(config) => {
            let shown = format!("{config:?}");
            assert!(!shown.contains(VALUE), "{shown}");
            for words in config.warnings.iter().chain(&config.absent(Path::new("/nonexistent"))) {
                assert!(!words.contains(VALUE), "{words}");
            }
            // What is asked for more often than the configuration is read.
            let _ = config.secrets();
            for service in &config.services {
                let _ = service.local_ports();
                for probe in &service.probes {
                    let _ = (probe.address(), probe.port());
                }
            }
        }
        Err(errors) => {
            let mut count = 0;
            for error in errors.iter() {
                count += 1;
                let words = error.to_string();
                assert!(!words.contains(VALUE), "{words}");
                let (line, column) = error.place.expect("an error of a text has its place");
                let found = text.split('\n').nth(line - 1).expect("the error's line");
                assert!(column >= 1 && column <= found.chars().count() + 1, "{words}");
            }
            assert!(count > 0);
        }
    }
}
