//! Sessions into which the input writes: each function spoils another part of the shared memory.

use std::sync::atomic::Ordering;

use rapace_shm_core::layout::{
    At, DataSegmentHeader, DescRingHeader, FREE_LIST_END, INLINE_PAYLOAD_SLOT, Line, MsgDescHot, SlotMeta, SlotState,
};
use rapace_shm_core::region::Region;

use super::arena::Arena;
use super::input::Input;
use crate::common::rubbish::{Choices, small, value};

/// Heads and tails of both rings say something else between any two calls.
pub fn cursors(data: &[u8]) {
    Arena::run(data, |arena, input| {
        let ring = a_ring(arena, input);
        let word = [DescRingHeader::VISIBLE_HEAD, DescRingHeader::TAIL][input.below(2)].within(ring);
        let index = index(arena.region.u64(word).load(Ordering::Relaxed), input);
        arena.region.u64(word).store(index, Ordering::Relaxed);
    });
}

/// Another index than the one that is there, most often a neighbour.
pub fn index(seen: u64, input: &mut Input<'_>) -> u64 {
    match input.below(4) {
        0 => input.any_u64(),
        1 => u64::from(small(input)),
        2 => seen.wrapping_add(u64::from(small(input))),
        _ => seen.wrapping_sub(u64::from(small(input))),
    }
}

/// Messages that nobody of this project would send, in the place that is read next or in any other.
pub fn descriptors(data: &[u8]) {
    Arena::run(data, |arena, input| {
        let ring = a_ring(arena, input);
        let head = arena.region.u64(DescRingHeader::VISIBLE_HEAD.within(ring));
        let next = head.load(Ordering::Relaxed);
        let places = arena.config.ring_capacity as usize;
        let place = if input.below(4) == 0 { input.below(places) } else { usize::try_from(next).unwrap() % places };
        let line: At<Line> = At::new(ring + size_of::<DescRingHeader>()).nth(place);
        let descriptor =
            if input.below(4) == 0 { MsgDescHot::from_line(words(input)) } else { plausible(arena, input) };
        arena.region.store_line(line, descriptor.to_line());
        head.store(next.wrapping_add(1), Ordering::Relaxed);
    });
}

fn words(input: &mut Input<'_>) -> Line {
    std::array::from_fn(|_| input.any_u64())
}

/// A descriptor of a slot that may exist, which is made to be in flight, or lent, as often as not.
fn plausible(arena: &Arena, input: &mut Input<'_>) -> MsgDescHot {
    let slot = small(input);
    let generation = small(input);
    if slot < arena.config.slot_count && input.below(2) == 0 {
        let state = [SlotState::InFlight, SlotState::Lent][input.below(2)];
        arena.region.u64(meta(arena, slot)).store(SlotMeta::new(generation, state).to_word(), Ordering::Relaxed);
    }
    let mut edge = || match input.below(4) {
        0 => input.any(),
        1 => arena.config.slot_size,
        2 => arena.config.slot_size - small(input).min(4),
        _ => small(input),
    };
    let (payload_offset, payload_len) = (edge(), edge());
    let payload_slot = if input.below(8) == 0 { INLINE_PAYLOAD_SLOT } else { slot };
    MsgDescHot { payload_slot, payload_generation: generation, payload_offset, payload_len, ..MsgDescHot::data(0) }
}

/// Heads and links of the lists of free slots lead elsewhere; generations and states are other ones.
pub fn free_lists(data: &[u8]) {
    Arena::run(data, |arena, input| {
        let slot = u32::try_from(input.below(arena.config.slot_count as usize)).unwrap();
        match input.below(4) {
            0 => arena.region.u64(list(arena, input)).store(u64::from(first(input)), Ordering::Relaxed),
            1 => {
                let tagged = u64::from(input.any()) << 32 | u64::from(first(input));
                arena.region.u64(list(arena, input)).store(tagged, Ordering::Relaxed);
            }
            2 => arena.region.u32(link(arena, slot)).store(first(input), Ordering::Relaxed),
            _ => {
                let generation = if input.below(2) == 0 { small(input) } else { input.any() };
                let meta_word = SlotMeta { generation, state: small(input) }.to_word();
                arena.region.u64(meta(arena, slot)).store(meta_word, Ordering::Relaxed);
            }
        }
    });
}

/// Any word of the region says something else.
pub fn session(data: &[u8]) {
    Arena::run(data, |arena, input| {
        let words = arena.offsets.end / size_of::<u32>();
        let mut any = || arena.region.u32(At::new(input.below(words) * size_of::<u32>()));
        let (word, other) = (any(), any().load(Ordering::Relaxed));
        let value = value(input, word.load(Ordering::Relaxed), other);
        word.store(value, Ordering::Relaxed);
    });
}

fn a_ring(arena: &Arena, input: &mut Input<'_>) -> usize {
    [arena.offsets.a_to_b_ring, arena.offsets.b_to_a_ring][input.below(2)]
}

/// The head of one of the three lists of free slots.
fn list(arena: &Arena, input: &mut Input<'_>) -> At<u64> {
    match input.below(3) {
        0 => DataSegmentHeader::FREE_HEAD.within(arena.offsets.data_header),
        _ => DescRingHeader::RETURNED.within(a_ring(arena, input)),
    }
}

/// Where a list leads: to a slot, nowhere, or outside.
fn first(input: &mut Input<'_>) -> u32 {
    match input.below(8) {
        0 => FREE_LIST_END,
        1 => input.any(),
        _ => small(input),
    }
}

fn link(arena: &Arena, slot: u32) -> At<u32> {
    At::new(arena.offsets.slot_data + slot as usize * arena.config.slot_size as usize)
}

fn meta(arena: &Arena, slot: u32) -> At<u64> {
    At::new(arena.offsets.slot_meta + slot as usize * size_of::<SlotMeta>())
}
