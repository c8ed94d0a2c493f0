//! What is sent: frames that both processes can tell from a seed and a number, so that either knows what must arrive.

use fastrand::Rng;
use rapace_shm::{FrameFlags, MsgDescHot};

/// What one side says to the other.
#[derive(Clone, Debug)]
pub struct Frame {
    pub descriptor: MsgDescHot,
    pub payload: Vec<u8>,
}

/// The frames of one direction, in their order.
pub fn frames(seed: u64, slot_size: u32, count: u64) -> impl Iterator<Item = Frame> {
    (0..count).map(move |number| frame(seed, slot_size, number))
}

fn frame(seed: u64, slot_size: u32, number: u64) -> Frame {
    let mut rng = Rng::with_seed(seed << 32 | number);
    let descriptor = descriptor(&mut rng, number);
    let full = slot_size as usize;
    // Around the longest inline payload, around the longest of all, and whatever is between.
    let len = match number % 9 {
        0 => 0,
        1 => 1,
        2 => 15,
        3 => 16,
        4 => 17,
        5 => full - 1,
        6 => full,
        _ => rng.usize(..=full),
    };
    Frame { descriptor, payload: std::iter::repeat_with(|| rng.u8(..)).take(len).collect() }
}

/// All that a caller may say in a descriptor.
pub fn descriptor(rng: &mut Rng, number: u64) -> MsgDescHot {
    MsgDescHot {
        msg_id: number,
        channel_id: rng.u32(..),
        method_id: rng.u32(..),
        flags: FrameFlags::from_bits_retain(rng.u32(..)),
        credit_grant: rng.u32(..),
        deadline_ns: rng.u64(..),
        inline_payload: std::array::from_fn(|_| rng.u8(..)),
        ..MsgDescHot::new()
    }
}

impl Frame {
    /// Everything arrived as it was sent: what belongs to the caller, the length, and each byte.
    #[track_caller]
    pub fn assert_is(&self, seen: &MsgDescHot, payload: &[u8]) {
        let MsgDescHot { payload_slot, payload_generation, .. } = *seen;
        // A payload may stand where the caller had bytes of its own.
        let inline_payload = if seen.is_inline() { seen.inline_payload } else { self.descriptor.inline_payload };
        let payload_len = u32::try_from(self.payload.len()).unwrap();
        let expected = MsgDescHot { payload_slot, payload_generation, payload_len, inline_payload, ..self.descriptor };
        assert_eq!(*seen, expected);
        assert!(payload == self.payload, "message {} has other bytes", seen.msg_id);
    }
}
