//! Core's protocol, run by a model checker: what a test on real threads cannot show is that no interleaving and no
//! stale read breaks it.
//!
//! `rapace-shm-core` takes its memory as a parameter. Here that is a [`LoomRegion`], whose words are loom's atomics
//! and whose slots are loom's cells, so the very code that runs in production is explored step by step, in a plain
//! `cargo test`. The sides sleep on a [`Bell`] without time-outs: a lost wake-up is a deadlock that loom reports.
//!
//! | file | what is modelled |
//! |---|---|
//! | `tests/ring.rs` | push and pop, one by one and in batches |
//! | `tests/slab.rs` | two peers allocate and free; one frees, the other allocates |
//! | `tests/wait.rs` | waiting for data, for space, for slots, in both directions at once |
//! | `tests/message.rs` | whole messages with their payload in a slot |
//! | `tests/close.rs` | either end closes while the other one waits |
//! | `tests/frozen.rs` | both sides let go of bytes that the sender reads on; one sends them again; a reset meanwhile |
//! | `tests/hub.rs` | two members of a hub allocate and free while a third is reaped, killed at any access; who waits for a slot, or for any plugin |
//! | `tests/growth.rs` | members of a hub let a class grow at once, within a bound; one of them is killed at any access of it; one waits for room |
//! | `tests/takeover.rs` | a plugin killed at any access of receiving; the host reaps while what it took over is let go of |
//! | `tests/guard.rs` | guards of one endpoint in several threads; a reset meanwhile |
//!
//! Every model is recorded with mutants that it kills: core with one thing wrong, by a [`Mutation`]. Those are tests
//! as well, so an ordering that nothing needs, or a model that notices nothing, is a failing test.
//!
//! # How far it goes
//!
//! Executions with up to two preemptions are explored exhaustively (one in the long models of a
//! death); `RAPACE_SHM_LOOM_BOUND=3` allows three, `RAPACE_SHM_LOOM_LONG_BOUND=2` two in the long ones, which takes hours.
//! Loom treats sequentially consistent accesses as acquire-release ones (core uses only fences), never lets a
//! load see a later store (hence [`Lines::Owned`]), and does not know `membarrier`. The ledger is private
//! memory over core's own atomics: its steps interleave ([`LoomRegion::with_ledger_steps`]), its orderings are not
//! checked.

mod endpoint;
mod explore;
mod fields;
mod hub;
mod mutant;
mod place;
mod region;
mod session;
mod word;

pub use endpoint::{Barrier, Bell, LoomEndpoint};
pub use explore::{check, check_at_every_access, check_long, killed};
pub use fields::Fields;
pub use hub::{GROWING_HUB, HUB, Hub, LARGE, Member, Taken};
pub use mutant::{Life, Mutant, MutantWord, Mutation};
pub use place::Lines;
pub use region::LoomRegion;
pub use session::{Peers, assert_all_free, free_head, loan, receive, returned_by, send, slot_meta, wait};
pub use word::LoomWord;
