//! Who took the memory, and who asked for an end.

use super::{Renderer, millis, room, wall};
use crate::{
    emit::wire,
    fact::{Account, Actor, Ancestor, Culprit, GrownGroup, GrownProcess, MemoryHolder, MemoryLimit},
};

impl Renderer<'_> {
    pub(super) fn culprit(&self, culprit: &Culprit) -> wire::Culprit {
        let holder = |it: &MemoryHolder| wire::MemoryHolder {
            pid: it.pid,
            name: self.foreign_name(&it.name),
            bytes: it.bytes,
        };
        let limit = |it: &MemoryLimit| wire::MemoryLimit {
            cgroup: it.cgroup.as_ref().map(|path| self.text(path, room::PATH)),
            file: self.name(&it.file),
            bytes: it.bytes,
        };
        let process = |it: &GrownProcess| wire::GrownProcess {
            pid: it.holder.pid,
            name: self.foreign_name(&it.holder.name),
            role: it.role.as_ref().map(|role| self.foreign_name(role)),
            grown_bytes: it.grown,
            at_least: it.at_least,
            bytes: it.holder.bytes,
        };
        let cgroup = |it: &GrownGroup| wire::GrownCgroup {
            path: self.text(&it.path, room::PATH),
            grown_bytes: it.grown,
            bytes: it.bytes,
        };
        wire::Culprit {
            text: self.text(&culprit.to_string(), room::DETAIL),
            killer: self.foreign_name(&culprit.killer),
            victim: holder(&culprit.victim),
            limit: culprit.limit.as_ref().map(limit),
            process: culprit.process.as_ref().map(process),
            cgroup: culprit.group.as_ref().map(cgroup),
            over_ms: millis(culprit.over),
            largest: culprit.largest.iter().take(self.fit(room::ITEMS)).map(holder).collect(),
            reclaim: culprit.reclaim.as_ref().map(|words| self.text(words, room::DETAIL)),
        }
    }

    pub(super) fn actor(&self, actor: &Actor) -> wire::Actor {
        let user = |it: &Account| wire::User {
            id: it.id.to_string(),
            name: it.name.as_ref().map(|name| self.foreign_name(name)),
        };
        let line = |line: &Option<String>| line.as_ref().map(|line| self.text(line, room::MESSAGE));
        let ancestor = |it: &Ancestor| wire::ActorProcess {
            pid: it.pid,
            name: self.foreign_name(&it.name),
            command_line: line(&it.command_line),
        };
        wire::Actor {
            text: self.text(&actor.to_string(), room::DETAIL),
            at: wall(actor.at),
            process: wire::ActorProcess {
                pid: actor.pid,
                name: self.foreign_name(&actor.name),
                command_line: line(&actor.command_line),
            },
            user: user(&actor.user),
            login: actor.login.as_ref().map(user),
            terminal: actor.terminal.as_ref().map(|name| self.foreign_name(name)),
            unit: actor.unit.as_ref().map(|unit| self.foreign_name(unit)),
            ancestors: actor.ancestors.iter().take(self.fit(room::ITEMS)).map(ancestor).collect(),
        }
    }
}
