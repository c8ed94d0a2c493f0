//! Segments that somebody else made: whole regions, and headers on their own.

use rapace_shm_core::layout::{
    LayoutError, MAGIC, MsgDescHot, PROTOCOL_VERSION, SegmentHeader, ShmSessionConfig, Span, calculate_segment_size,
};
use rapace_shm_core::link::{Link, LinkError, Session};
use rapace_shm_core::region::{InRegion, REGION_ALIGN, Region};

use super::input::Input;
use crate::common::side::Side;
use crate::common::{HeapEndpoint, HeapRegion, endpoint, pair_and_region, region};

const HEADER: usize = size_of::<SegmentHeader>();

/// Bytes of a program of calls, and the most multiples of [`REGION_ALIGN`] of a region.
const CALLS: usize = 48;
const UNITS: u8 = 64;

/// A region whose bytes are the input's: a newcomer refuses it, or uses it and stays within bounds.
pub fn header(data: &[u8]) {
    let mut input = Input::new(data);
    let [units] = input.array();
    let mut calls = input.take(CALLS);
    let size = usize::from(units % UNITS + 1) * REGION_ALIGN;
    let region = region(size);
    region.copy_in(Span { offset: 0, len: size }, input.rest());
    let peeked = Session::peek(&region);
    assert_eq!(peeked.ok(), shape_of(&region), "a snapshot says the same");
    let slots = peeked.map_or(1, |config| config.slot_count.min(512));
    match Link::attach(endpoint(&region, slots)) {
        Ok(link) => use_it(Side::new(link), &mut calls),
        Err(LinkError::LedgerInUse { .. } | LinkError::Busy | LinkError::PeerFault(_)) => panic!("it is a fresh one"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn use_it(mut side: Side<HeapEndpoint>, calls: &mut Input<'_>) {
    assert!(calculate_segment_size(&side.link.session().config()).unwrap() <= side.link.endpoint().region().size());
    while !calls.is_empty() {
        side.call(calls);
    }
    side.reset();
    side.call(calls);
}

/// What the header says when it is read as bytes.
fn shape_of(region: &HeapRegion) -> Option<ShmSessionConfig> {
    let mut bytes = [0; HEADER];
    region.copy_out(Span { offset: 0, len: HEADER }, &mut bytes);
    SegmentHeader::from_bytes(bytes).shape(region.size()).ok()
}

/// A header, and how many bytes there are behind it: the answer is the one that the layout's formula gives.
pub fn segment_header(data: &[u8]) {
    let mut input = Input::new(data);
    let header = SegmentHeader::from_bytes(input.array());
    let available = usize::try_from(input.any_u64()).unwrap_or(usize::MAX);
    let SegmentHeader { ring_capacity, slot_size, slot_count, .. } = header;
    let is_segment = header.magic == MAGIC && header.version >> 16 == PROTOCOL_VERSION >> 16;
    assert_eq!(header.identify().is_ok(), is_segment);
    let is_shape = ring_capacity.is_power_of_two()
        && slot_size > 0
        && slot_size.is_multiple_of(4)
        && (1..u32::MAX).contains(&slot_count);
    // Ring headers and the others; a descriptor in each ring; metadata and bytes of a slot.
    let required = 576 + 128 * u128::from(ring_capacity) + u128::from(slot_count) * (8 + u128::from(slot_size));
    let fits = required <= (available as u128).min(isize::MAX as u128);
    match header.shape(available) {
        Ok(config) => {
            assert!(is_segment && is_shape && fits);
            assert_eq!(config, ShmSessionConfig { ring_capacity, slot_size, slot_count });
        }
        Err(error) => {
            assert!(!(is_segment && is_shape && fits), "{error}");
            let says_how_much =
                matches!(error, LayoutError::SegmentTooSmall { required: said, .. } if said as u128 == required);
            assert!(says_how_much || !(is_segment && is_shape) || required > isize::MAX as u128, "{error}");
        }
    }
}

/// Headers of shapes that fit, just, not at all, and not into any memory.
pub fn seeds_of_headers() -> Vec<Vec<u8>> {
    let shapes = [(1, 4, 1), (256, 4096, 64), (1 << 31, 4, 1), (1, u32::MAX - 3, u32::MAX - 1), (3, 6, 0)];
    let seed = |(ring_capacity, slot_size, slot_count): (u32, u32, u32)| {
        let mut bytes = MAGIC.to_vec();
        for word in [PROTOCOL_VERSION, 0, ring_capacity, slot_size, slot_count] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.resize(HEADER, 0);
        let size = calculate_segment_size(&ShmSessionConfig { ring_capacity, slot_size, slot_count });
        bytes.extend((size.unwrap_or(1 << 20) as u64).to_le_bytes());
        bytes
    };
    shapes.into_iter().map(seed).collect()
}

/// Segments as a creator leaves them, and as they are in the middle of things.
pub fn seeds_of_regions() -> Vec<Vec<u8>> {
    let shapes = [(1, 4, 1), (2, 64, 3), (8, 20, 5)];
    let seed = |((ring_capacity, slot_size, slot_count), messages): ((u32, u32, u32), u64)| {
        let (mut a, _b, region) = pair_and_region(ShmSessionConfig { ring_capacity, slot_size, slot_count });
        for number in 0..messages {
            // The smallest has no room for them.
            let _ = a.split().0.try_send(&MsgDescHot::data(number), &[7; 20]);
        }
        let mut bytes = vec![0; 1 + CALLS + region.size()];
        bytes[0] = u8::try_from(region.size().div_ceil(REGION_ALIGN)).unwrap();
        bytes[1..=CALLS].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7).to_le_bytes()[0]);
        region.copy_out(Span { offset: 0, len: region.size() }, &mut bytes[1 + CALLS..]);
        // B's side is vacant, or nobody has come yet.
        bytes[1 + CALLS + SegmentHeader::PEER_B_STATE.offset()] = if messages == 0 { 0 } else { 3 };
        bytes
    };
    shapes.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]).map(seed).collect()
}
