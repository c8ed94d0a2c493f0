//! The published crate, rapace-transport-shm 0.4.0, as the peer: its own transport, on its own runtime, in another process.
//!
//! Seen to fail on these mutants: MUTANTS

#[path = "../common/mod.rs"]
mod common;

mod bytes;
mod exchange;
mod frames;
mod heartbeat;
mod newcomers;
mod old;
mod rubbish;
