//! The fuzz functions on stable: inputs made up at random and mutated from seeds, without a look at what they reach.
//!
//! This executes every function two million times, in an optimised program whose core still says when it reaches outside
//! the region:
//!
//! ```sh
//! CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true RAPACE_SHM_FUZZ_EXECUTIONS=2000000 \
//!     cargo test --release -p rapace-shm-core --test fuzz
//! ```
//!
//! `core/fuzz/run NAME` executes the same functions under libFuzzer, which does look. A failure names the number of its
//! execution; `RAPACE_SHM_FUZZ_ONLY` repeats that one alone.
//!
//! Seen to fail on these mutants of core: no check of the ring's head, or of its tail (`ring`); no check of a payload's
//! range or slot number; no claim in the ledger; links of free lists that are not checked; inline payloads of any length
//! (the sessions); a census or a reaper that walks a free list without end (the watchdog); a shape that need not fit
//! (`header`). In a hub: no check of a payload's range; entries of the ledger that two classes share.

#[path = "../common/mod.rs"]
mod common;
mod functions;
mod mutate;
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::number_from;
use functions::FUNCTIONS;
use mutate::Generator;
use watchdog::Watchdog;

/// Executions of each function unless the environment says otherwise.
const EXECUTIONS: u64 = 40_000;

fn execute(name: &'static str) {
    let function = FUNCTIONS.iter().find(|function| function.name == name).expect("a function of that name");
    let generator = Generator::new((function.seeds)());
    let watchdog = Watchdog::start(name);
    let executions = number_from("RAPACE_SHM_FUZZ_EXECUTIONS").unwrap_or(EXECUTIONS);
    let only = number_from("RAPACE_SHM_FUZZ_ONLY");
    for number in only.map_or(0..executions, |number| number..number + 1) {
        watchdog.begins(number);
        let input = generator.input(number);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (function.run)(&input))) {
            eprintln!("repeat with RAPACE_SHM_FUZZ_ONLY={number}; the input is {input:02x?}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn a_header_says_what_the_layouts_formula_says() {
    execute("segment_header");
}

#[test]
fn any_bytes_are_refused_or_used_within_bounds() {
    execute("header");
}

#[test]
fn a_ring_believes_no_index_that_cannot_be() {
    execute("ring");
}

#[test]
fn a_session_survives_any_cursor() {
    execute("cursors");
}

#[test]
fn a_session_survives_any_descriptor() {
    execute("descriptors");
}

#[test]
fn a_session_survives_any_free_list() {
    execute("free_lists");
}

#[test]
fn a_session_survives_any_word() {
    execute("session");
}

#[test]
fn a_hub_survives_any_word() {
    execute("hub");
}
