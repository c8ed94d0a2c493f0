//! The hub of the published crate, rapace-transport-shm 0.4.0, beside ours.

#[path = "../common/mod.rs"]
mod common;

mod bytes;
