//! The bytes: every structure of the version 1 layout, its shared words, and where they stand.
//!
//! The structures are plain data with zerocopy's derives, so a snapshot of a segment is just bytes read as a
//! structure. Which of their fields are shared words is said by the typed offsets ([`At`]) beside them, which are
//! computed with `offset_of!`: the structures are the single source of every offset.
//!
//! # Words that this project adds
//!
//! All in bytes that version 1.0 reserves and leaves zero, and of each zero is the careful answer, so a version 1.0
//! peer needs no negotiation:
//!
//! | where | word | zero means |
//! |---|---|---|
//! | [`SegmentHeader`] 80, 84 | `peer_a_state`, `peer_b_state` | nobody of ours is attached on that side |
//! | [`SegmentHeader`] 88 to 120 | `peer_a_pid`, `_pid_namespace`, `_start`, `peer_b_…` | that peer's process is not known |
//! | [`DescRingHeader`] 72 | `returned` | the consumer has returned no slot here |
//! | [`DescRingHeader`] 132, 136 | `data_sleeper`, `space_sleeper` | may sleep at any time: always signal |
//! | [`DescRingHeader`] 140, 144 | `producer_state`, `consumer_state` | that end has not been closed |
//! | [`DescRingHeader`] 148, 152 | `space_sequence`, `slots_sleeper` (hub) | nothing was signalled; may sleep at any time |
//! | [`DescRingHeader`] 156, 160 | `waits_with_others`, `consumer_peer_state` (hub) | sleeps for this ring alone; has not left |
//! | [`DescRingHeader`] 164, 168, 176 | `producer_pid`, `_start`, `_pid_namespace` (hub) | that process is not known |
//! | [`HubHeader`] 72 | `host_state` | the host is none of ours |
//! | [`HubHeader`] 76, 80 | `host_sequence`, `host_sleeper` | nothing was signalled; may sleep at any time |
//! | [`HubHeader`] 84 | `in_doubt` | the host needs not be told of slots announced in vain |
//! | [`HubHeader`] 88 | `slot_waiters` | nobody waits for a slot |
//! | [`HubHeader`] 224, 232, 240 | `grown`, `max_size`, `max_extents` | the hub does not grow |
//! | [`PeerEntry`] 48 | `state` | nobody of ours is attached there |
//! | [`PeerEntry`] 52, 56, 60 | `announced` | is not in the middle of taking or freeing a slot |
//! | [`SizeClassHeader`] 152 | `quota` | a plugin may have any number of slots |
//! | [`SizeClassHeader`] 156 | `fresh` | the hub does not grow |
//! | [`DataSegmentHeader`] 28, 32 | `slots_sleeper_a`, `slots_sleeper_b` | may sleep at any time: always signal |
//!
//! And one value in a word that version 1.0 uses: a slot's state may be 3, [`SlotState::Lent`], in flight while its sender
//! reads on. That is written only while the receiver's `peer_…_state` says that it is one of ours.
//!
//! # Versions of a hub
//!
//! | version | its classes | their extents |
//! |---|---|---|
//! | 1.0, [`HUB_PROTOCOL_VERSION`] | [`HUB_SIZE_CLASSES`] | one each |
//! | 2.0, [`HUB_OWN_CLASSES_VERSION`] | what the class headers say | one each |
//! | 3.0, [`HUB_GROWABLE_VERSION`] | what the class headers say | 1 to `max_extents` each, as `grown` says |
//!
//! A host writes the lowest version that can say what it wants, so that as many peers as possible understand it; a peer
//! that does not know the major version refuses the hub. The first extents of a hub are where version 1 has them in all
//! three.
//!
//! Layouts are native-endian; a segment of the other endianness is refused by its magic. Reading generation and
//! state of a slot as one 64-bit word beside a version 1.0 peer that writes them as two 32-bit words assumes that
//! the platform keeps mixed-size atomics coherent, as x86-64 and AArch64 do.

mod at;
mod descriptor;
mod hub;
mod hub_shape;
mod peer;
mod ring;
mod segment;
mod slots;

pub use at::{At, Line, Span};
pub use descriptor::{FrameFlags, INLINE_PAYLOAD_SIZE, INLINE_PAYLOAD_SLOT, MsgDescHot, NO_DEADLINE};
pub use hub::{
    ANNOUNCEMENTS, DEFAULT_HUB_RING_CAPACITY, ExtentHeader, HUB_GROWABLE_VERSION, HUB_MAGIC, HUB_OWN_CLASSES_VERSION,
    HUB_PROTOCOL_VERSION, HubHeader, HubSlotMeta, MAX_EXTENTS_PER_CLASS, MAX_PEERS, NO_OWNER, NUM_SIZE_CLASSES,
    PEER_FLAG_ACTIVE, PEER_FLAG_DEAD, PEER_FLAG_DYING, PEER_FLAG_RESERVED, PEER_TYPE_PLUGIN, PeerEntry,
    SizeClassHeader,
};
pub use hub_shape::{
    HUB_SIZE_CLASSES, HubConfig, HubLayoutError, HubOffsets, SizeClass, calculate_hub_size, decode_global_index,
    decode_slot_ref, encode_global_index, encode_slot_ref,
};
pub use peer::{PeerRole, PeerWords, ProcessWords};
pub use ring::{DescRingHeader, RING_HEADER_SIZE};
pub(crate) use segment::identify;
pub use segment::{
    DEFAULT_RING_CAPACITY, DEFAULT_SLOT_COUNT, DEFAULT_SLOT_SIZE, LayoutError, MAGIC, PROTOCOL_VERSION, PeerState,
    SegmentHeader, SegmentOffsets, ShmSessionConfig, calculate_segment_size,
};
pub use slots::{DataSegmentHeader, FREE_LIST_END, SlotMeta, SlotState};
