//! The hub of the published crate, rapace-transport-shm 0.4.0, beside ours.
//!
//! Seen to fail on these mutants of core: a free list head with tag 0; metadata of a free slot with owner 0.

#[path = "../common/mod.rs"]
mod common;

mod bytes;
