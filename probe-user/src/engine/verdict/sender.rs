//! The sender of a signal in words.

use crate::fact::{Sender, process::whereabouts};

/// As a part of a sentence.
pub fn sender_words(sender: &Sender) -> String {
    match sender {
        Sender::Process { pid, name, user_id, unit, terminal } => {
            let unit = unit.as_ref().map_or_else(String::new, |unit| format!(", unit {unit}"));
            let terminal = if *terminal { ", at a terminal" } else { "" };
            format!("{name} ({}, uid {user_id}{unit}{terminal})", whereabouts(*pid))
        }
        Sender::Itself => "itself".to_owned(),
        Sender::Kernel => "the kernel".to_owned(),
    }
}
