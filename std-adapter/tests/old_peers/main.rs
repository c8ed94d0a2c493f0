//! The published crate, rapace-transport-shm 0.4.0, as the peer: its own transport, on its own runtime, in another process.
//!
//! Seen to fail on these mutants. Of the protocol: slots that are always returned to one's own list; an unknown sleeper that is
//! not signalled, for data or for slots (both are in the bytes); a slot's index, a payload's range or a free link that is not
//! checked (`rubbish`). Of the layout: another magic; a creator that writes a heartbeat. Of the heart: no watch by who only
//! sends; no watch before the other one's heart has beaten; a first heartbeat that waits for its second; one in 4 seconds, or
//! five in one; none after a reset. Of who may come: an old peer that has only waited counts as nobody; one at a vacated side
//! does; a reset that does not ask, or that leaves our last heartbeat behind.

#[path = "../common/mod.rs"]
mod common;

mod bytes;
mod exchange;
mod frames;
mod heartbeat;
mod newcomers;
mod old;
mod rubbish;
