//! Rubbish, and where it hurts: what the tests of hostile peers write, from within the process and from another one.
#![allow(dead_code)] // each test file uses its part

use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, MsgDescHot, SegmentHeader, SegmentOffsets, ShmSessionConfig, SlotMeta,
};

/// Where choices come from: a generator of random numbers, or the bytes that a fuzzer made up.
pub trait Choices {
    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize;
    /// Any number.
    fn any(&mut self) -> u32;
}

impl Choices for fastrand::Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.usize(..bound)
    }

    fn any(&mut self) -> u32 {
        self.u32(..)
    }
}

/// What to write over a word that says `seen`. `elsewhere` is what another word says: an old generation, another slot.
pub fn value(choices: &mut impl Choices, seen: u32, elsewhere: u32) -> u32 {
    match choices.below(8) {
        0 => 0,
        1 => u32::MAX,
        2 => small(choices),
        3 => seen.wrapping_add(1),
        4 => seen.wrapping_sub(1),
        5 => seen ^ 1 << choices.below(32),
        6 => elsewhere,
        _ => choices.any(),
    }
}

/// A number that could be a slot, a state or a length.
pub fn small(choices: &mut impl Choices) -> u32 {
    u32::try_from(choices.below(6)).unwrap_or_default()
}

/// The halves of every word of the headers, the metadata, the free links and the descriptors.
pub fn targets(config: &ShmSessionConfig) -> Vec<usize> {
    let offsets = SegmentOffsets::calculate(config).unwrap();
    let header = DataSegmentHeader::FREE_HEAD.within(offsets.data_header).offset();
    let mut targets = vec![header, header + 4];
    targets.extend((0..size_of::<SegmentHeader>()).step_by(4));
    for ring in [offsets.a_to_b_ring, offsets.b_to_a_ring] {
        targets.extend((0..size_of::<DescRingHeader>()).step_by(4).map(|offset| ring + offset));
        let descriptors = config.ring_capacity as usize * size_of::<MsgDescHot>();
        targets.extend((0..descriptors).step_by(4).map(|offset| ring + size_of::<DescRingHeader>() + offset));
    }
    targets.extend((0..size_of::<DataSegmentHeader>()).step_by(4).map(|offset| offsets.data_header + offset));
    for slot in 0..config.slot_count as usize {
        let meta = offsets.slot_meta + slot * size_of::<SlotMeta>();
        targets.extend([meta, meta + 4, offsets.slot_data + slot * config.slot_size as usize]);
    }
    targets
}
