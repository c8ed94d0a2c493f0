//! The bytes of a hub, one by one: what version 1 says they are, written out by hand and not by the code under test.
//!
//! Seen to fail on these mutants of core: a free list head with tag 0; no extent count beside the shift; metadata of a free
//! slot with owner 0; rings at another place.

mod common;

use common::expected::{Expected, bytes};
use common::hub::{SMALL_HUB, host_of, hub_region, join};
use rapace_shm_core::hub::Waits;
use rapace_shm_core::layout::{HubConfig, MsgDescHot, SizeClass, Span, calculate_hub_size};
use rapace_shm_core::region::Region;

const SMALLEST: HubConfig = HubConfig { max_peers: 2, ring_capacity: 1, ..SMALL_HUB };

// Offsets for two entries, rings of one descriptor, and classes of four slots of 64 to 1024 bytes.
const ENTRY_1: usize = 256 + 64;
const RINGS: usize = 256 + 2 * 64;
const RING: usize = 192 + 64;
const TO_HOST: usize = RINGS + 2 * RING;
const TO_PEER: usize = RINGS + 3 * RING;
const CLASSES: usize = RINGS + 4 * RING;
const EXTENTS: usize = CLASSES + 5 * 192;
/// Header, metadata of four slots, slots.
const SIZES: [usize; 5] = [64, 128, 256, 512, 1024];

const fn extent(class: usize) -> usize {
    let mut at = EXTENTS;
    let mut smaller = 0;
    while smaller < class {
        at += 64 + 4 * 16 + 4 * SIZES[smaller];
        smaller += 1;
    }
    at
}

const END: usize = extent(5);

/// What version 1 writes; what this project adds is named.
fn fresh() -> Expected {
    let mut expected = Expected::zeroes(END)
        .bytes(0, b"RAPAHUB\0")
        // Classes of its own: a version 1.0 peer must refuse it.
        .u32(8, 2 << 16)
        .u16(16, 2)
        .u64(24, END as u64)
        .u32(32, 5)
        .u32(36, 1)
        .u64(40, 256)
        .u64(48, RINGS as u64)
        .u64(56, CLASSES as u64)
        .u64(64, EXTENTS as u64)
        // Added: the host is attached, and awake (it fences).
        .u32(72, 1)
        .u32(80, 4);
    for peer in 0..2 {
        let ring = RINGS + 2 * RING * peer;
        expected = expected.u64(256 + 64 * peer + 24, ring as u64).u64(256 + 64 * peer + 32, (ring + RING) as u64);
        expected = expected.u32(ring + 128, 1).u32(ring + RING + 128, 1);
    }
    for (class, size) in SIZES.into_iter().enumerate() {
        let (header, extent) = (CLASSES + 192 * class, extent(class));
        expected = expected
            .u32(header, u32::try_from(size).unwrap())
            .u32(header + 4, 4)
            .u64(header + 8, 1 << 32)
            .bytes(header + 20, &[2, 1])
            .u64(header + 24, extent as u64)
            .bytes(extent, &[u8::try_from(class).unwrap()])
            .u32(extent + 4, 4)
            .u32(extent + 24, 64)
            .u32(extent + 28, 64 + 4 * 16);
        for slot in 0..4 {
            let next = if slot < 3 { slot + 1 } else { u32::MAX };
            let meta = extent + 64 + 16 * slot as usize;
            expected = expected.u32(meta + 8, next).u32(meta + 12, u32::MAX);
        }
    }
    expected
}

#[test]
fn a_fresh_hub_byte_by_byte() {
    assert_eq!(calculate_hub_size(&SMALLEST), Ok(END));
    let region = hub_region(&SMALLEST);
    // The creator does not rely on zeroed memory.
    for offset in (0..END).step_by(4) {
        region.copy_in(Span { offset, len: 4 }, &[0xaa; 4]);
    }
    let host = host_of(&region, SMALLEST);
    let mut expected = fresh();
    // Only descriptors and the bytes of free slots are whatever they were.
    for ring in 0..4 {
        expected = expected.fill(RINGS + RING * ring + 192, 64, 0xaa);
    }
    for (class, size) in SIZES.into_iter().enumerate() {
        expected = expected.fill(extent(class) + 64 + 4 * 16, 4 * size, 0xaa);
    }
    expected.is(&bytes(&region));
    drop(host);
}

#[test]
fn a_fresh_hub_that_may_grow_says_so_and_is_otherwise_as_any() {
    let region = hub_region(&HubConfig { max_extents: 2, ..SMALLEST });
    let host = host_of(&region, HubConfig { max_extents: 2, ..SMALLEST });
    let seen = bytes(&region);
    let reach = END + (END - EXTENTS);
    assert_eq!((seen.len(), &seen[END..]), (reach, &vec![0; END - EXTENTS][..]));
    let mut expected = fresh().u32(8, 3 << 16).u64(232, reach as u64).u32(240, 2);
    for class in 0..5 {
        expected = expected.u32(CLASSES + 192 * class + 156, 4);
    }
    expected.is(&seen[..END]);
    drop(host);
}

#[test]
fn a_hub_with_the_classes_of_version_1_is_one_of_version_1() {
    let config = HubConfig::default();
    let region = hub_region(&config);
    let host = host_of(&region, config);
    let mut header = [0; 72];
    region.copy_out(Span { offset: 0, len: 72 }, &mut header);
    let expected = Expected::zeroes(72)
        .bytes(0, b"RAPAHUB\0")
        .u32(8, 1 << 16)
        .u16(16, 32)
        .u64(24, 115_380_416)
        .u32(32, 5)
        .u32(36, 256)
        .u64(40, 256)
        .u64(48, 2304)
        .u64(56, 1_063_168)
        .u64(64, 1_064_128);
    expected.is(&header);
    let mut class = [0; 32];
    region.copy_out(Span { offset: 1_063_168 + 192, len: 32 }, &mut class);
    let expected = Expected::zeroes(32).u32(0, 16_384).u32(4, 256).u64(8, 1 << 32).bytes(20, &[8, 1]);
    expected.u64(24, 1_064_128 + 1_065_024).is(&class);
    drop(host);
}

#[test]
fn a_reserved_plugin_and_an_attached_one_byte_by_byte() {
    let region = hub_region(&SMALLEST);
    let mut host = host_of(&region, SMALLEST);
    let link = host.reserve(Waits::Together).unwrap();
    let reserved = || {
        fresh()
            .u16(18, 1)
            .u16(20, 1)
            .u16(ENTRY_1, 1)
            .u16(ENTRY_1 + 2, 1)
            // Added: its place is vacant; the host waits for all at once; its sender, which fences, is to be looked at.
            .u32(TO_HOST + 156, 1)
            .u32(TO_PEER + 136, 4)
            .u32(TO_PEER + 152, 4)
    };
    reserved().u32(ENTRY_1 + 4, 8).u32(ENTRY_1 + 48, 3).u64(88, 1 << 33).is(&bytes(&region));
    let plugin = rapace_shm_core::hub::HubPeer::attach(common::endpoint(&region, 20), link.id()).unwrap();
    let attached = reserved().u32(ENTRY_1 + 4, 1).u32(ENTRY_1 + 48, 1).u64(88, 1 << 33 | 1 << 1);
    attached.u32(TO_PEER + 132, 4).u32(TO_HOST + 136, 4).u32(TO_HOST + 152, 4).is(&bytes(&region));
    drop((plugin, link));
}

#[test]
fn a_message_in_a_slot_of_a_hub_byte_by_byte() {
    let region = hub_region(&SMALLEST);
    let mut host = host_of(&region, SMALLEST);
    let (link, mut plugin) = join(&mut host, &region);
    let before = Expected::of(bytes(&region));
    plugin.split().0.try_send(&MsgDescHot::data(7), &[0x77; 100]).unwrap();
    let (meta, line) = (extent(1) + 64, TO_HOST + 192);
    before
        .u64(TO_HOST, 1)
        .u64(line, 7)
        .u32(line + 16, 1 << 29)
        .u32(line + 20, 1)
        .u32(line + 28, 100)
        .u32(line + 32, 1)
        .u64(line + 40, u64::MAX)
        .u64(CLASSES + 192 + 8, 2 << 32 | 1)
        .u32(meta, 1)
        .u32(meta + 4, 2)
        .u32(meta + 12, 1)
        .bytes(extent(1) + 64 + 4 * 16, &[0x77; 100])
        .is(&bytes(&region));
    drop((plugin, link));
}

#[test]
fn shapes_of_five_classes_stand_back_to_back() {
    let class = |slot_size, slot_count| SizeClass { slot_size, slot_count };
    let classes = [class(64, 8), class(128, 4), class(4096, 16), class(8192, 4), class(1 << 20, 4)];
    let config = HubConfig { max_peers: 5, ring_capacity: 8, classes, max_extents: 1 };
    let extents: usize =
        classes.iter().map(|class| 64 + class.slot_count as usize * (16 + class.slot_size as usize)).sum();
    assert_eq!(calculate_hub_size(&config), Ok(256 + 5 * 64 + 10 * (192 + 8 * 64) + 5 * 192 + extents));
}
