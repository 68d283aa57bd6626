//! Certificates that openssl makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::{SignedDuration, Timestamp};

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

/// A certificate authority of a test's own.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    own: Certificate,
}

/// What a certificate is for, as `subjectAltName` has it.
pub const LOCALHOST: &str = "DNS:localhost,IP:127.0.0.1,IP:::1";

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What `openssl ca` needs to know.
const CONFIGURATION: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
     default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";

impl Authority {
    /// Makes one in a folder; None where openssl is not installed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(folder: &Path, name: &str) -> Option<Self> {
        if !require("openssl", PROGRAM) {
            return None;
        }
        let folder = folder.join(name);
        fs::create_dir_all(&folder).expect("the folder is made");
        let own = Certificate { key: folder.join("ca.key"), pem: folder.join("ca.pem") };
        for (file, text) in [("index.txt", ""), ("ca.cnf", CONFIGURATION)] {
            fs::write(folder.join(file), text).expect("the folder can be written");
        }
        let authority = Self { folder, own };
        let subject = format!("/CN={name}");
        authority.openssl(&[
            &["req", "-x509", "-days", "3650", "-subj", &subject, "-out", "ca.pem", "-keyout", "ca.key"],
            &NEW_KEY[..],
            &["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"],
        ]);
        Some(authority)
    }

    /// The file of its own certificate.
    pub fn pem(&self) -> &Path {
        &self.own.pem
    }

    /// Issues a certificate for these names that expires so many days from now; it began a year before.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn issue(&self, name: &str, names: &str, days: i32) -> Certificate {
        let [key, request, pem, extensions] = ["key", "csr", "pem", "ext"].map(|end| format!("{name}.{end}"));
        let of = |days: i32| (Timestamp::now() + DAY * days).strftime("%Y%m%d%H%M%SZ").to_string();
        let (begin, end) = (of(days - 365), of(days));
        fs::write(
            self.folder.join(&extensions),
            format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n"),
        )
        .expect("the folder can be written");
        let subject = format!("/CN={name}");
        self.openssl(&[&["req", "-new", "-subj", &subject, "-out", &request, "-keyout", &key], &NEW_KEY[..]]);
        self.openssl(&[
            &["ca", "-config", "ca.cnf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key"],
            &["-in", &request, "-out", &pem, "-extfile", &extensions, "-startdate", &begin, "-enddate", &end],
        ]);
        Certificate { key: self.folder.join(key), pem: self.folder.join(pem) }
    }

    fn openssl(&self, arguments: &[&[&str]]) {
        let made = Command::new(PROGRAM).args(arguments.concat()).current_dir(&self.folder).output();
        let made = made.expect("openssl runs");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A key of an elliptic curve takes a millisecond to make, one of RSA up to a second.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
