//! x
use crate::{clock::Timestamp, fact::{ProcessKey, UnitState}};
/// x
#[derive(Debug)]
pub enum UnitJudgement { /// x
 A }
/// x
pub fn judge(_: &UnitState, _: &ProcessKey, _: Timestamp) -> UnitJudgement { UnitJudgement::A }
