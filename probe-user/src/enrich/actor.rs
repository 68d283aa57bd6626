//! Who asked: the program with its user, its login, its terminal and what started it.

use super::{
    Enricher,
    request::{self, Subject},
};
use crate::{
    clock::Timestamp,
    fact::{Account, Actor, Ancestor, OutsideRequest, ProcessKey, actor::ANCESTORS_MAX},
    host::cgroup,
    sensor::record,
};

/// The longest text that is kept of a process, in bytes.
const TEXT_MAX: usize = 512;

impl Enricher {
    /// What a process that has just executed a program asks for, and who it is. Processes of a container have a manager and
    /// pids of their own.
    pub fn outside_request(&self, record: &record::Exec) -> Option<(OutsideRequest, Subject)> {
        let process = self.table.newest(record.pid)?;
        if process.container_id.is_some() || !request::may_ask(&process.name) {
            return None;
        }
        let line = process.command_line.as_deref().unwrap_or_default();
        let (verb, subject) = match &record.image {
            Some(image) => request::of(image.arguments.iter().map(String::as_str)),
            None => request::of(line.split(' ')),
        }?;
        let at = Timestamp::from_nanos(record.at_ns);
        let actor = self.actor(process.key, (&process.name, process.user_id), at);
        Some((OutsideRequest { verb, actor }, subject))
    }

    /// The sender of a signal, with what is behind it. None for process 1, which does what others ask of it.
    pub(super) fn actor_of_signal(&self, signal: &record::Signal) -> Option<Actor> {
        let sender = signal.sender.as_ref().filter(|sender| sender.pid > 1)?;
        let key = ProcessKey::new(sender.pid, Timestamp::from_nanos(sender.start_ns));
        Some(self.actor(key, (&sender.comm, sender.uid), Timestamp::from_nanos(signal.at_ns)))
    }

    /// A process by its name and user, with what is behind it. It may have ended by now: what it inherited is read from the
    /// nearest of those that started it.
    fn actor(&self, key: ProcessKey, (name, user): (&str, u32), at: Timestamp) -> Actor {
        let known = self.table.get_at(key, at).cloned();
        let known = known.or_else(|| self.reader.read(key.pid).filter(|found| found.key == key));
        let mut chain = vec![key.pid];
        let mut ancestors = Vec::new();
        let mut next =
            known.as_ref().map(|it| it.parent_pid).or_else(|| self.reader.descent(key.pid).map(|it| it.1));
        let mut younger = key.start;
        while let Some(pid) = next.filter(|pid| *pid > 1 && ancestors.len() < ANCESTORS_MAX) {
            let Some((ancestor, start, parent)) = self.ancestor(pid, younger) else { break };
            chain.push(pid);
            ancestors.push(ancestor);
            (next, younger) = (Some(parent), start);
        }
        let account = |id| Account { id, name: self.users.name(id) };
        let login = chain.iter().find_map(|pid| self.reader.login_user(*pid)).flatten();
        let terminal = chain.iter().find_map(|pid| self.reader.terminal(*pid)).flatten();
        let path = known.as_ref().and_then(|it| it.cgroup.as_ref()).map(|group| group.path.as_str());
        let unit = match path {
            Some(path) => cgroup::unit_name(path),
            // Of those that live, the nearest.
            None => chain.iter().find_map(|pid| self.reader.unit_if_known(*pid)).flatten(),
        };
        let line = known.as_ref().and_then(|it| it.command_line.as_deref());
        Actor {
            at,
            pid: key.pid,
            name: short(name),
            command_line: line.map(short),
            user: account(user),
            login: login.map(account),
            terminal,
            unit,
            ancestors,
            fingerprint: 0,
        }
        .with_fingerprint()
    }

    /// A process that was there before the one that began at `younger`, with its own start and its parent. The table has it as
    /// it was executed, also if it has ended.
    fn ancestor(&self, pid: u32, younger: Timestamp) -> Option<(Ancestor, Timestamp, u32)> {
        let living = self.reader.descent(pid).filter(|(key, _)| key.start <= younger);
        let known = self
            .table
            .newest(pid)
            .filter(|known| living.map_or(known.key.start <= younger, |(key, _)| key == known.key));
        if let Some(known) = known {
            let command_line = known.command_line.as_deref().map(short);
            // An orphan has another parent by now.
            let ancestor = Ancestor { pid, name: short(&known.name), command_line };
            return Some((ancestor, known.key.start, known.parent_pid));
        }
        let (key, parent) = living?;
        let found = self.reader.read(pid).filter(|found| found.key == key)?;
        let command_line = found.command_line.as_deref().map(short);
        Some((Ancestor { pid, name: short(&found.name), command_line }, key.start, parent))
    }
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrich::Members, fact::RequestVerb, host::ProcReader, sensor::record::Image};

    fn exec(arguments: &[&str]) -> record::Exec {
        let image = Image {
            start_ns: 9_000_000_000_000_000,
            // The test itself, which lives.
            parent_pid: std::process::id(),
            uid: 0,
            pid_namespace: None,
            watched: false,
            cgroups: record::Cgroups::default(),
            comm: arguments[0].to_owned(),
            filename: format!("/usr/bin/{}", arguments[0]),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            arguments_truncated: false,
        };
        let source = crate::fact::Source::Ebpf;
        record::Exec { at_ns: 9_000_000_000_000_000, source, pid: 5_000_000, image: Some(image) }
    }

    #[test]
    fn a_program_that_has_ended_is_known_by_its_record_and_those_that_started_it() {
        let mut enricher = Enricher::new(ProcReader::new("/").unwrap(), Members::default()).unwrap();
        let record = exec(&["systemctl", "stop", "web"]);
        enricher.exec(&record);
        let (request, subject) = enricher.outside_request(&record).unwrap();
        assert_eq!(
            (request.verb, subject),
            (RequestVerb::Stop, Subject::Units(vec!["web.service".to_owned()]))
        );
        let actor = request.actor;
        assert_eq!(actor.command_line.as_deref(), Some("systemctl stop web"));
        assert_eq!(actor.ancestors[0].pid, std::process::id());
        assert_eq!(actor.login.map(|it| it.id), enricher.reader.login_user(std::process::id()).flatten());
        let again = enricher.outside_request(&record).unwrap().0.actor;
        assert_eq!(again.fingerprint, actor.fingerprint);
    }

    #[test]
    fn other_programs_ask_for_nothing() {
        let mut enricher = Enricher::new(ProcReader::new("/").unwrap(), Members::default()).unwrap();
        for arguments in [["ls", "stop", "web"], ["systemctl", "status", "web"]] {
            let record = exec(&arguments);
            enricher.exec(&record);
            assert!(enricher.outside_request(&record).is_none(), "{arguments:?}");
        }
    }
}
