//! The rows.

mod ends;
mod others;
mod starts;
mod template;

use super::row::UnitRow;

pub fn rows() -> Vec<UnitRow> {
    [ends::ROWS, starts::ROWS, others::ROWS].concat()
}
