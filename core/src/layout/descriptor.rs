//! The 64-byte message descriptor that travels through the rings.

use bitflags::bitflags;
use static_assertions::const_assert;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::at::Line;

/// Longest payload that rides inside its descriptor, in bytes.
pub const INLINE_PAYLOAD_SIZE: usize = 16;

/// The value of [`MsgDescHot::payload_slot`] that says "the payload is inline".
pub const INLINE_PAYLOAD_SLOT: u32 = u32::MAX;

/// The value of [`MsgDescHot::deadline_ns`] that says "no deadline".
pub const NO_DEADLINE: u64 = u64::MAX;

/// What kind of frame a descriptor carries. Bits that this version does not know are carried unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct FrameFlags(u32);

bitflags! {
    impl FrameFlags: u32 {
        /// A data frame.
        const DATA = 1;
        /// A control frame.
        const CONTROL = 2;
        /// The last frame of its stream.
        const EOS = 4;
        /// The sender gives the call up.
        const CANCEL = 8;
        /// The payload describes an error.
        const ERROR = 16;
        /// To be handled before others.
        const HIGH_PRIORITY = 32;
        /// [`MsgDescHot::credit_grant`] is meant.
        const CREDITS = 64;
        /// Headers only, no body follows.
        const METADATA_ONLY = 128;
        // Every other bit belongs to whoever sent it.
        const _ = !0;
    }
}

/// One message as it stands in a ring: who it belongs to, and where its payload is.
///
/// Layout: the version 1 descriptor of the rapace framework, 64 bytes, native endian. The transport writes the
/// five `payload_*` fields (and `inline_payload`) when it sends; everything else is the caller's and is carried
/// unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct MsgDescHot {
    /// The caller's number for this message.
    pub msg_id: u64,
    /// Channel, 0 = control.
    pub channel_id: u32,
    /// Method of the service that is called.
    pub method_id: u32,
    /// Slot that holds the payload, [`INLINE_PAYLOAD_SLOT`] = the payload is inline.
    pub payload_slot: u32,
    /// Generation the slot had when it was allocated; 0 when inline.
    pub payload_generation: u32,
    /// Where in its slot the payload starts, in bytes; 0 when inline.
    pub payload_offset: u32,
    /// Payload length in bytes.
    pub payload_len: u32,
    /// Kind of frame.
    pub flags: FrameFlags,
    /// Bytes of credit granted to the peer, with [`FrameFlags::CREDITS`].
    pub credit_grant: u32,
    /// When the call is void, in nanoseconds of a clock that the two callers agree on; [`NO_DEADLINE`] = never.
    pub deadline_ns: u64,
    /// The payload itself if it has at most [`INLINE_PAYLOAD_SIZE`] bytes.
    pub inline_payload: [u8; INLINE_PAYLOAD_SIZE],
}

const_assert!(size_of::<MsgDescHot>() == 64);
const_assert!(align_of::<MsgDescHot>() == 64);
const_assert!(core::mem::offset_of!(MsgDescHot, msg_id) == 0);
const_assert!(core::mem::offset_of!(MsgDescHot, channel_id) == 8);
const_assert!(core::mem::offset_of!(MsgDescHot, method_id) == 12);
const_assert!(core::mem::offset_of!(MsgDescHot, payload_slot) == 16);
const_assert!(core::mem::offset_of!(MsgDescHot, payload_generation) == 20);
const_assert!(core::mem::offset_of!(MsgDescHot, payload_offset) == 24);
const_assert!(core::mem::offset_of!(MsgDescHot, payload_len) == 28);
const_assert!(core::mem::offset_of!(MsgDescHot, flags) == 32);
const_assert!(core::mem::offset_of!(MsgDescHot, credit_grant) == 36);
const_assert!(core::mem::offset_of!(MsgDescHot, deadline_ns) == 40);
const_assert!(core::mem::offset_of!(MsgDescHot, inline_payload) == 48);

impl MsgDescHot {
    /// A descriptor with every field at its fresh value: no flags, no deadline, an empty inline payload.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            msg_id: 0,
            channel_id: 0,
            method_id: 0,
            payload_slot: INLINE_PAYLOAD_SLOT,
            payload_generation: 0,
            payload_offset: 0,
            payload_len: 0,
            flags: FrameFlags::empty(),
            credit_grant: 0,
            deadline_ns: NO_DEADLINE,
            inline_payload: [0; INLINE_PAYLOAD_SIZE],
        }
    }

    /// A [`FrameFlags::DATA`] frame with this message number.
    #[must_use]
    pub const fn data(msg_id: u64) -> Self {
        let mut descriptor = Self::new();
        descriptor.msg_id = msg_id;
        descriptor.flags = FrameFlags::DATA;
        descriptor
    }

    /// Whether the payload is said to be inside the descriptor.
    #[must_use]
    #[inline]
    pub const fn is_inline(&self) -> bool {
        self.payload_slot == INLINE_PAYLOAD_SLOT
    }

    /// The descriptor as the eight words that a ring stores.
    #[must_use]
    #[inline(always)]
    pub const fn to_line(&self) -> Line {
        *self.words()
    }

    #[inline(always)]
    const fn words(&self) -> &Line {
        zerocopy::transmute_ref!(self)
    }

    /// A copy that is made word by word: to be passed out of line where the original must not be.
    ///
    /// A caller has often just written the fields of a descriptor. As long as its address goes nowhere, the compiler
    /// keeps them in registers; once it does, the processor has to read whole words that were written in parts, and waits
    /// until every store before, the last message's among them, has left the core.
    #[must_use]
    #[inline(always)]
    pub fn by_words(&self) -> Self {
        let [a, b, c, d, e, f, g, h] = *self.words();
        Self::from_line([a, b, c, d, e, f, g, h])
    }

    /// Whether these are the words of a message whose payload is inside, with a length that can be.
    #[inline(always)]
    pub(crate) fn is_sound_inline(line: &Line) -> bool {
        let [_, _, slot, range, ..] = *line;
        let slot = Self::slot_of(slot);
        let [_, len]: [u32; 2] = zerocopy::transmute!(range);
        // One comparison of both.
        (u64::from(!slot) << 32 | u64::from(len)) <= INLINE_PAYLOAD_SIZE as u64
    }

    /// The slot that the third word of a line names.
    #[inline(always)]
    pub(crate) fn slot_of(word: u64) -> u32 {
        let [slot, _]: [u32; 2] = zerocopy::transmute!(word);
        slot
    }

    /// The words of this message with its payload (of at most [`INLINE_PAYLOAD_SIZE`] bytes) inside.
    #[inline(always)]
    pub(crate) fn line_with_inline(&self, payload: &[u8]) -> Line {
        #[allow(clippy::cast_possible_truncation)] // at most 16
        let range = pair(0, payload.len() as u32);
        self.line_with(pair(INLINE_PAYLOAD_SLOT, 0), range, inline_words(payload))
    }

    /// The words of this message with its payload of `len` bytes in a slot, `offset` bytes from its start.
    #[inline(always)]
    pub(crate) fn line_with_slot(&self, slot: u32, generation: u32, offset: u32, len: u32) -> Line {
        let [.., first, second] = *self.words();
        self.line_with(pair(slot, generation), pair(offset, len), [first, second])
    }

    #[inline(always)]
    fn line_with(&self, slot: u64, range: u64, payload: [u64; 2]) -> Line {
        let [id, method, _, _, flags, deadline, ..] = *self.words();
        let [first, second] = payload;
        [id, method, slot, range, flags, deadline, first, second]
    }

    /// The descriptor that eight words of a ring say. Any words make a descriptor; whether it is a sensible one
    /// is for the receive step to check.
    #[must_use]
    #[inline(always)]
    pub fn from_line(line: Line) -> Self {
        zerocopy::transmute!(line)
    }
}

/// Two neighbouring fields as one word.
#[inline(always)]
fn pair(first: u32, second: u32) -> u64 {
    zerocopy::transmute!([first, second])
}

/// Up to 16 bytes as two words, zeroes behind them: two overlapping reads that are shifted into place, because a loop
/// over bytes, or a call of `memcpy`, costs more than the rest of an inline send.
#[inline(always)]
fn inline_words(bytes: &[u8]) -> [u64; 2] {
    let len = bytes.len();
    let (first, second) = if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // 16 - len bytes of the last eight are in the first eight too. In two halves: one shift of 64 bits is none.
        let half = 4 * INLINE_PAYLOAD_SIZE.wrapping_sub(len);
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last) >> (half & 63) >> (half & 63))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let last = u64::from(u32::from_le_bytes(*last));
        (u64::from(u32::from_le_bytes(*first)) | last << ((8 * (len - 4)) & 63), 0)
    } else {
        (bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
    };
    [first.to_le(), second.to_le()]
}

impl Default for MsgDescHot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_payload_of_every_length_lies_in_its_place_and_nothing_behind_it() {
        let bytes = *b"0123456789abcdef";
        for len in 0..=INLINE_PAYLOAD_SIZE {
            let mut before = MsgDescHot::data(9);
            before.inline_payload = [0xFF; 16];
            let sent = MsgDescHot::from_line(before.line_with_inline(&bytes[..len]));
            let mut expected = [0; 16];
            expected[..len].copy_from_slice(&bytes[..len]);
            assert_eq!(sent.inline_payload, expected, "{len} bytes");
            assert_eq!(sent.payload_len as usize, len);
            assert_eq!((sent.msg_id, sent.flags), (9, FrameFlags::DATA));
            assert!(sent.is_inline());
        }
    }

    #[test]
    fn a_slot_is_named_and_the_rest_carried_unchanged() {
        let before = MsgDescHot { channel_id: 4, credit_grant: 5, inline_payload: [7; 16], ..MsgDescHot::data(3) };
        let sent = MsgDescHot::from_line(before.line_with_slot(1, 2, 16, 300));
        let expected =
            MsgDescHot { payload_slot: 1, payload_generation: 2, payload_offset: 16, payload_len: 300, ..before };
        assert_eq!(sent, expected);
    }
}
