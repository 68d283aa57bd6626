//! What a main process has answered: a later run of the daemon takes a failure of the same process for its own, though that run
//! has had no answer yet.

use super::model::{ProbeState, Service};
use crate::fact::{ProcessKey, RememberedAnswers};

impl Service {
    /// What is to be kept of them. Those of an earlier process stay until this one has answered: they are about no other one.
    pub(super) fn answers(&self) -> Option<RememberedAnswers> {
        let questions: Vec<u64> = self.answered_questions().collect();
        let given = self.main.filter(|_| !questions.is_empty());
        given.map(|process| RememberedAnswers { process, questions }).or_else(|| self.kept.answers.clone())
    }

    /// Whether they are kept as they are. It allocates nothing, because each result of a probe asks.
    pub(super) fn are_answers_kept(&self) -> bool {
        let (Some(main), Some(_)) = (self.main, self.answered_questions().next()) else { return true };
        self.kept.answers.as_ref().is_some_and(|kept| {
            kept.process == main && self.answered_questions().eq(kept.questions.iter().copied())
        })
    }

    fn answered_questions(&self) -> impl Iterator<Item = u64> {
        self.probes.iter().filter_map(ProbeState::answered_question)
    }

    /// The main process is found. An answer of another process says nothing about this one.
    pub(super) fn recall_answers(&mut self, main: ProcessKey) {
        if let Some(kept) = self.kept.answers.as_ref().filter(|kept| kept.process == main) {
            self.probes.iter_mut().for_each(|probe| probe.recall(&kept.questions));
        }
    }
}
