//! Hubs in which some are of the published crate, rapace-transport-shm 0.4.0: its plugins at a host of ours, beside ours, and
//! ours at its host. What it exchanges goes through its own transports, on its own runtime, in other processes.
//!
//! Seen to fail on these mutants of core: a free list head with tag 0; metadata of a free slot with owner 0.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)] // the rest is for sessions
#[path = "../old_peers/frames.rs"]
mod frames;
#[allow(dead_code)]
#[path = "../old_peers/old.rs"]
mod old;

mod bytes;
mod exchange;
mod gone;
mod lengths;
mod waiting;
