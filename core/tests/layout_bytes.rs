//! The bytes, one by one: what version 1 says they are, written out by hand and not by the code under test.

mod common;

use common::expected::{Expected, bytes};
use common::{endpoint, region};
use rapace_shm_core::layout::{
    DEFAULT_RING_CAPACITY, DEFAULT_SLOT_COUNT, DEFAULT_SLOT_SIZE, FrameFlags, MsgDescHot, SegmentOffsets,
    ShmSessionConfig, Span, calculate_segment_size,
};
use rapace_shm_core::link::Link;
use rapace_shm_core::region::Region;
use zerocopy::IntoBytes;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 32, slot_count: 3 };

// Offsets for a capacity of 2 and 3 slots of 32 bytes.
const A_TO_B: usize = 128;
const B_TO_A: usize = 128 + 192 + 2 * 64;
const DATA_HEADER: usize = B_TO_A + 192 + 2 * 64;
const SLOT_META: usize = DATA_HEADER + 64;
const SLOT_DATA: usize = SLOT_META + 3 * 8;
const END: usize = SLOT_DATA + 3 * 32;

/// What version 1 writes; what this project adds is named.
fn fresh() -> Expected {
    let mut expected = Expected::zeroes(END)
        .bytes(0, b"RAPACE\0\0")
        .u32(8, 1 << 16)
        .u32(16, 2)
        .u32(20, 32)
        .u32(24, 3)
        .u32(DATA_HEADER, 32)
        .u32(DATA_HEADER + 4, 3)
        .u32(DATA_HEADER + 8, 32)
        // Added: peer A is attached.
        .u32(80, 1);
    for ring in [A_TO_B, B_TO_A] {
        expected = expected.u32(ring + 128, 2);
    }
    // Added: A's sleeper words say "awake, fences": for data from B, for space to B, for slots.
    expected = expected.u32(B_TO_A + 132, 4).u32(A_TO_B + 136, 4).u32(DATA_HEADER + 28, 4);
    // The free list: each slot names the next, the last none; the head names slot 0 with tag 0.
    expected.u32(SLOT_DATA, 1).u32(SLOT_DATA + 32, 2).u32(SLOT_DATA + 64, u32::MAX)
}

#[test]
fn a_fresh_segment_byte_by_byte() {
    assert_eq!(calculate_segment_size(&CONFIG), Ok(END));
    let region = region(END);
    // The creator does not rely on zeroed memory.
    for offset in (0..END).step_by(4) {
        region.copy_in(Span { offset, len: 4 }, &[0xaa; 4]);
    }
    let link = Link::create(endpoint(&region, 3), CONFIG).unwrap();
    let mut expected = fresh();
    // Only the bytes of free slots behind their link are whatever they were.
    for slot in 0..3 {
        let start = SLOT_DATA + slot * 32 + 4;
        expected = expected.fill(start, 28, 0xaa);
    }
    expected.is(&bytes(&region));
    drop(link);
}

#[test]
fn a_message_in_a_slot_byte_by_byte() {
    let region = region(END);
    let mut link = Link::create(endpoint(&region, 3), CONFIG).unwrap();
    let descriptor = MsgDescHot {
        msg_id: 0x0102_0304_0506_0708,
        channel_id: 0x1112_1314,
        method_id: 0x2122_2324,
        flags: FrameFlags::DATA | FrameFlags::EOS,
        credit_grant: 0x3132_3334,
        deadline_ns: 0x4142_4344_4546_4748,
        inline_payload: [0x55; 16],
        ..MsgDescHot::new()
    };
    link.split().0.try_send(&descriptor, &[0x77; 20]).unwrap();
    let line = A_TO_B + 192;
    fresh()
        .u64(A_TO_B, 1)
        .u64(line, 0x0102_0304_0506_0708)
        .u32(line + 8, 0x1112_1314)
        .u32(line + 12, 0x2122_2324)
        .u32(line + 16, 0)
        .u32(line + 20, 1)
        .u32(line + 28, 20)
        .u32(line + 32, 5)
        .u32(line + 36, 0x3132_3334)
        .u64(line + 40, 0x4142_4344_4546_4748)
        .bytes(line + 48, &[0x55; 16])
        .u64(DATA_HEADER + 16, 1 << 32 | 1)
        .u32(SLOT_META, 1)
        .u32(SLOT_META + 4, 2)
        .bytes(SLOT_DATA, &[0x77; 20])
        // B is unknown, so its data word is bumped: it may be one of the published crate.
        .u32(64, 1)
        .is(&bytes(&region));
}

#[test]
fn an_inline_message_byte_by_byte() {
    let region = region(END);
    let mut link = Link::create(endpoint(&region, 3), CONFIG).unwrap();
    link.split().0.try_send(&MsgDescHot::data(7), b"inline").unwrap();
    let line = A_TO_B + 192;
    fresh()
        .u64(A_TO_B, 1)
        .u64(line, 7)
        .u32(line + 16, u32::MAX)
        .u32(line + 28, 6)
        .u32(line + 32, 1)
        .u64(line + 40, u64::MAX)
        .bytes(line + 48, b"inline")
        .u32(64, 1)
        .is(&bytes(&region));
}

#[test]
fn a_fresh_descriptor_byte_by_byte() {
    let mut expected = [0; 64];
    expected[16..20].fill(0xff);
    expected[40..48].fill(0xff);
    assert_eq!(MsgDescHot::new().as_bytes(), expected);
}

#[test]
fn the_default_segment_has_the_size_and_the_offsets_of_version_1() {
    let config = ShmSessionConfig::default();
    assert_eq!((DEFAULT_RING_CAPACITY, DEFAULT_SLOT_SIZE, DEFAULT_SLOT_COUNT), (256, 4096, 64));
    let offsets = SegmentOffsets::calculate(&config).unwrap();
    assert_eq!((offsets.a_to_b_ring, offsets.b_to_a_ring), (128, 16_704));
    assert_eq!((offsets.data_header, offsets.slot_meta, offsets.slot_data), (33_280, 33_344, 33_856));
    assert_eq!(calculate_segment_size(&config), Ok(296_000));
}
