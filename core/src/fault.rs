//! What a peer did wrong.

use thiserror::Error;

/// The peer (or whoever writes into the region) broke the protocol. The endpoint that saw it is closed; nothing else
/// in the process is harmed. The remedy is always the same: drop the endpoint and start a new session.
///
/// Each variant names what was seen and the bound that it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// The producer's index is behind what was consumed, or further ahead than the ring is long.
    #[error("ring head is {seen}, expected {consumed} to {consumed} + {capacity}")]
    Head {
        /// The head seen.
        seen: u64,
        /// Messages consumed so far.
        consumed: u64,
        /// Descriptors in the ring.
        capacity: u32,
    },
    /// The consumer's index went back, or is ahead of what was published.
    #[error("ring tail is {seen}, expected {before} to {published}")]
    Tail {
        /// The tail seen.
        seen: u64,
        /// The tail seen the time before.
        before: u64,
        /// Messages published so far.
        published: u64,
    },
    /// An inline payload is said to be longer than fits.
    #[error("inline payload of {len} bytes; a descriptor holds at most 16")]
    InlineLength {
        /// The length seen, in bytes.
        len: u32,
    },
    /// A slot that does not exist.
    #[error("slot {slot} does not exist; there are {count}")]
    SlotIndex {
        /// The slot seen.
        slot: u32,
        /// Number of slots.
        count: u32,
    },
    /// A slot reference of a size class that a hub does not have.
    #[error("slot reference {reference:#x} names size class {class}; there are 5")]
    SizeClass {
        /// The reference seen.
        reference: u32,
        /// The class that it names.
        class: u32,
    },
    /// A payload that does not lie within its slot.
    #[error("payload of {len} bytes at {offset} does not lie within slot {slot} of {slot_size} bytes")]
    PayloadRange {
        /// The slot.
        slot: u32,
        /// Offset of the payload in the slot, in bytes.
        offset: u32,
        /// Length of the payload, in bytes.
        len: u32,
        /// Size of a slot, in bytes.
        slot_size: u32,
    },
    /// A slot is of another generation than its handle.
    #[error("slot {slot} has generation {seen}, expected {expected}")]
    Generation {
        /// The slot.
        slot: u32,
        /// The generation in the descriptor or the handle.
        expected: u32,
        /// The generation in the slot's metadata.
        seen: u32,
    },
    /// A slot is not in the state that the step at hand requires.
    #[error("slot {slot} has state {seen}, expected {expected} (0 free, 1 allocated, 2 in flight, 3 lent)")]
    State {
        /// The slot.
        slot: u32,
        /// The state required.
        expected: u32,
        /// The state seen.
        seen: u32,
    },
    /// A size class is said to have more extents than it can have.
    #[error("size class {class} is said to have {seen} extents; there can be {max}")]
    Extents {
        /// The size class.
        class: u32,
        /// Extents that the hub's header says.
        seen: u32,
        /// Extents that it can have.
        max: u32,
    },
    /// An extent is said to be there, and its bytes are not: the file is shorter.
    #[error("extent {extent} of size class {class} is said to be there, but its bytes are not")]
    ExtentMissing {
        /// The size class.
        class: u32,
        /// The extent, counted from 0.
        extent: u32,
    },
    /// The slots of a size class that were never taken cannot begin there.
    #[error("slots of size class {class} are said to be fresh from {seen} on; that can be from {first} to {there}")]
    Fresh {
        /// The size class.
        class: u32,
        /// The first fresh slot, by its header.
        seen: u32,
        /// The first slot that is ever fresh.
        first: u32,
        /// Slots of the extents that are there.
        there: u32,
    },
    /// A slot that this endpoint already holds was offered to it again, by the free list or by a message.
    #[error("slot {slot} was offered although this endpoint already holds it")]
    AlreadyHeld {
        /// The slot.
        slot: u32,
    },
    /// A slot's metadata changed while this endpoint held the slot; found out when its guard was dropped.
    #[error("metadata of slot {slot} changed while this endpoint held it")]
    Tampered {
        /// The slot.
        slot: u32,
    },
    /// A link of the free list leads nowhere.
    #[error("free list leads from slot {slot} to slot {next}; there are {count}")]
    FreeLink {
        /// The free slot with the link, or `u32::MAX` for the list's head.
        slot: u32,
        /// Where it leads.
        next: u32,
        /// Number of slots.
        count: u32,
    },
    /// A shared word changed under every one of many tries: somebody rewrites it in a loop.
    #[error("free list head or slot state changed during {tries} tries in a row")]
    NeverSettles {
        /// How often it was tried.
        tries: u32,
    },
}
