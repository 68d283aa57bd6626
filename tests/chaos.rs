//! The short form of `cargo xtask chaos`: the same rounds each time.

use std::time::Duration;

use hostprobe_tests::{
    chaos::{self, Settings},
    parts::require_root,
};

/// A seed, its first round, and how many.
const ROUNDS: (u64, u32, u32) = (3, 0, 10);

/// Far more than they take: reaching it is a failure.
const LONG: Duration = Duration::from_secs(900);

#[test]
fn hostprobe_makes_the_right_thing_of_random_faults_while_it_is_killed_and_its_surroundings_fail() {
    if !require_root() {
        return;
    }
    let (seed, first, rounds) = ROUNDS;
    let settings = Settings { seed, length: LONG, first, rounds: Some(rounds) };
    let Some(findings) = chaos::run(&settings).expect("the services start") else { return };
    println!("{}{}", findings.table(), findings.counts());
    assert_eq!(findings.wrong, [] as [String; 0]);
    assert_eq!(findings.rounds, rounds);
}
