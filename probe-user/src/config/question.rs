//! What a probe asks, as a number that is the same in each run of the daemon.

use ring::digest::{SHA256, digest};

use super::probe::Probe;

impl Probe {
    /// A number of everything that makes an answer right: two probes with the same one ask the same. It is never 0.
    ///
    /// It is free of secrets, because recordings have it: a password that has changed changes nothing here, and a server that
    /// refuses it is not restarted. A version of hostprobe that reads a key otherwise may have other numbers, and has to be
    /// answered once.
    pub(super) fn question(&self) -> u64 {
        // Each field is named, so that a new key does not compile until it is handled here.
        let Self {
            kind,
            target,
            timeout,
            tls,
            http,
            expect_status,
            expect_body,
            exchange,
            exec,
            expect_answers,
            auth_is_alive,
            // When it asks.
            interval: _,
            failures: _,
            heartbeat: _,
            // An answer beyond these limits is an answer.
            slow: _,
            memory_percent: _,
            connections_percent: _,
            server: _,
        } = self;
        let mut target = target.expose().to_owned();
        for secret in self.secrets().iter().filter(|secret| !secret.is_empty()) {
            target = target.replace(secret.as_str(), "*");
        }
        let text = format!(
            "{kind:?}\n{target:?}\n{timeout:?}\n{tls:?}\n{http:?}\n{expect_status:?}\n{expect_body:?}\n{exchange:?}\n{exec:?}\n\
             {expect_answers:?}\n{auth_is_alive}"
        );
        let digest = digest(&SHA256, text.as_bytes());
        let number = digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        number.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{config::Secret, fact::ProbeKind};

    fn probe(target: &str) -> Probe {
        Probe::new(ProbeKind::Http, Secret::new(target))
    }

    #[test]
    fn probes_that_ask_otherwise_have_another_number_and_those_that_ask_at_other_times_have_not() {
        let known = probe("http://127.0.0.1:80/health?deep=1");
        let others = [
            probe("http://127.0.0.1:81/health?deep=1"),
            probe("http://127.0.0.1:80/health?deep=0"),
            Probe { kind: ProbeKind::Tcp, ..known.clone() },
            Probe { expect_body: Some("ok".to_owned()), ..known.clone() },
            Probe { expect_status: vec![204], ..known.clone() },
            Probe { timeout: Duration::from_millis(1), ..known.clone() },
        ];
        let mut numbers: Vec<u64> = others.iter().map(Probe::question).chain([known.question()]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), others.len() + 1);
        let rarer = Probe { interval: Duration::from_secs(77), failures: 9, slow: None, ..known.clone() };
        assert_eq!(rarer.question(), known.question());
    }

    #[test]
    fn no_password_is_part_of_the_number() {
        let of = |password: &str| probe(&format!("http://probe:{password}@h/x?token={password}")).question();
        assert_eq!(of("s3cret"), of("0ther"));
    }
}
