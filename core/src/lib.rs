//! Rings, slabs and a wait protocol over a region of memory that two programs share. `no_std`, and no `alloc`.
//!
//! Peers map the same bytes and pass 64-byte descriptors through single-producer single-consumer rings. A payload of
//! up to 16 bytes rides inside its descriptor; a longer one lies in a slot that the sender allocates and the receiver
//! frees, and is never copied on the way.
//!
//! | module | what lives there |
//! |---|---|
//! | [`layout`] | the bytes: version 1 of the rapace layout, and the words this project adds |
//! | [`region`] | the memory as a parameter: a pointer, a `static`, or a test's |
//! | [`ring`] | the descriptor ring |
//! | [`ledger`], [`slots`] | what this endpoint holds; the slab |
//! | [`endpoint`], [`wake`] | what a side brings along; how it sleeps and wakes |
//! | [`link`] | the send step and the receive step |
//! | [`hub`] | one host, up to 31 plugins, one pool of slots |
//! | `allocator` | `Vec` and `Box` in a region (feature `allocator`) |
//!
//! Start at [`link`] for messages, at [`ring`] for bare descriptors.
//!
//! # What a peer can do to you
//!
//! A peer is on the same machine and may be buggy, stale or dead. Whatever bytes appear in the region at whatever
//! moment: no undefined behaviour from control data, no panic, no unbounded loop; a typed [`PeerFault`] that names
//! what was seen, after which the endpoint is closed.
//!
//! What remains on trust: a received payload is handed out as `&[u8]`, on the protocol's word that its sender writes to
//! the slot no more. A sender that breaks its word can change those bytes while they are read; and so can a receiver
//! those that their sender [reads on](link::Frozen) after it has sent them. Whoever cannot trust the peer that far copies
//! the payload out first ([`Message::copy_to`](link::Message::copy_to)), and keeps nothing of what it sends. The other such
//! place is the free list's link, which version 1 keeps in the slot itself: see [`slots`].

#![no_std]
#![deny(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "allocator")]
pub mod allocator;
mod atomic;
pub mod endpoint;
mod fault;
pub mod hub;
mod lanes;
pub mod layout;
pub mod ledger;
pub mod link;
pub mod region;
pub mod ring;
pub mod slots;
pub mod wake;

pub use fault::PeerFault;
