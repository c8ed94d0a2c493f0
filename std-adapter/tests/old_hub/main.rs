//! Hubs in which some are of the published crate, rapace-transport-shm 0.4.0: its plugins at a host of ours, beside ours, and
//! ours at its host. What it exchanges goes through its own transports, on its own runtime, in other processes.
//!
//! Seen to fail on these mutants. Of core: a free list head with tag 0; metadata of a free slot with owner 0; nobody counts as
//! old but a host; who waits does not look at the word that an old plugin bumps, or that an old host does, or at those of
//! all size classes; an old plugin's number that ours may take. Of the host: an old plugin's doorbell is not heard, never
//! drained, not rung, or not rung to see whether somebody is there; one counts as joined before it has come. Of the plugin: no
//! heartbeat; the old host's process is not watched. Of both: looks that do not get rarer.

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
