//! Certificates that openssl makes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::require;

/// Debian's program.
const PROGRAM: &str = "/usr/bin/openssl";

/// A certificate for `localhost` and its key, as files.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub key: PathBuf,
    pub pem: PathBuf,
}

impl Certificate {
    /// Makes one in a folder that has signed itself and may sign others; None where openssl is not installed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn self_signed(folder: &Path, name: &str) -> Option<Self> {
        if !require("openssl", PROGRAM) {
            return None;
        }
        let [key, pem] = ["key", "pem"].map(|end| folder.join(format!("{name}.{end}")));
        let made = Command::new(PROGRAM)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&pem)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl runs").success());
        Some(Self { key, pem })
    }

    /// Makes these files a copy of another certificate.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn becomes(&self, other: &Self) {
        for (from, to) in [(&other.key, &self.key), (&other.pem, &self.pem)] {
            std::fs::copy(from, to).expect("it is copied");
        }
    }
}
