//! As `hub_damaged.rs`, for hubs that grow: what only they have.
//!
//! Seen to fail when: only the first extent's metadata is read; fresh slots count as lost; the end of the first extents is
//! taken from the header's size; a listed fresh slot is not looked for; a file that is longer than it need be is a finding.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rapace_shm::core::layout::{
    ExtentHeader, FREE_LIST_END, HUB_GROWABLE_VERSION, HubConfig, HubHeader, HubOffsets, HubSlotMeta, NO_OWNER,
    PeerEntry, SizeClassHeader,
};
use rapace_shm::inspect::FindingKind::*;
use rapace_shm::inspect::{HubReport, InspectError, Report};
use rapace_shm::{HubHost, Waits};

use crate::hub_segment;
use crate::segment::{Bytes, Case, check_damages};

const CONFIG: HubConfig = HubConfig { max_extents: 3, ..hub_segment::CONFIG };

/// A hub that has grown.
#[derive(Clone)]
struct Places(HubOffsets);

type Grown = Bytes<Places>;

impl Grown {
    fn class(&self, number: usize) -> usize {
        self.at.0.size_classes + number * size_of::<SizeClassHeader>()
    }

    fn extent(&self, class: usize, number: usize) -> usize {
        self.at.0.extents[class] + number * (self.at.0.end - self.at.0.extents[0])
    }

    fn meta(&self, class: usize, number: usize, slot: usize) -> usize {
        self.extent(class, number) + size_of::<ExtentHeader>() + slot * size_of::<HubSlotMeta>()
    }

    fn report(&self) -> Result<HubReport, InspectError> {
        HubReport::read(&self.file())
    }
}

/// Six slots of class 1 are in use, the last two in its second extent; one was, and is free. Class 4 has three extents.
fn busy() -> Grown {
    let mut host = HubHost::create(CONFIG).unwrap();
    let plugin = host.add_local(Waits::Together).unwrap();
    let mut loans: Vec<_> = (0..7).map(|_| host.loan_for(plugin.id(), 100).unwrap()).collect();
    loans.pop();
    loans.extend((0..9).map(|_| host.loan_for(plugin.id(), 1000).unwrap()));
    bytes_of(&host)
}

fn bytes_of(host: &HubHost) -> Grown {
    let file = File::open(format!("/proc/self/fd/{}", host.memfd().unwrap().as_raw_fd())).unwrap();
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Bytes { bytes, at: Places(HubOffsets::calculate(&CONFIG).unwrap()) }
}

#[test]
fn a_hub_that_has_grown_has_no_findings_and_says_how_far() {
    let report = busy().report().unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!((report.header.version, report.looks), (HUB_GROWABLE_VERSION, 1));
    let parts = report.parts.as_ref().unwrap();
    assert_eq!(parts.config, CONFIG);
    let class = |number: usize| {
        let status = parts.classes[number].status;
        (status.extents, status.total, status.free, status.allocated, status.free_list_len)
    };
    let unused = |slots| (1, slots, slots, 0, slots);
    assert_eq!([0, 2, 3].map(class), [unused(16), unused(4), unused(4)]);
    assert_eq!([1, 4].map(class), [(2, 8, 2, 6, 2), (3, 12, 3, 9, 3)]);
    let text = report.to_string();
    let bytes = HubOffsets::calculate(&CONFIG).unwrap().reach;
    for fact in [
        "\nclass 1                 8 slots of 128 bytes in 2 extents\n".to_owned(),
        "\nclass 2                 4 slots of 256 bytes\n".to_owned(),
        format!("\ngrows                   to 3 extents of each class, {bytes} bytes altogether\n"),
    ] {
        assert!(text.contains(&fact), "no {fact:?} in {text}");
    }
}

#[test]
fn a_fresh_one_has_no_findings_either_nor_one_that_was_made_longer_in_vain() {
    let mut fresh = bytes_of(&HubHost::create(CONFIG).unwrap());
    assert!(fresh.report().unwrap().findings.is_empty());
    // Its grower was killed before it could say so.
    fresh.bytes.resize(fresh.at.0.reach, 0);
    assert!(fresh.report().unwrap().findings.is_empty());
}

#[test]
fn a_hub_that_grows_while_it_is_looked_at_has_no_findings() {
    for _ in 0..20 {
        let mut host = HubHost::create(CONFIG).unwrap();
        let file = File::open(format!("/proc/self/fd/{}", host.memfd().unwrap().as_raw_fd())).unwrap();
        let plugin = host.add_local(Waits::Together).unwrap();
        let grower = std::thread::spawn(move || {
            // All that there can be, one after the other.
            let loans: Vec<_> = (0..96).map(|_| host.loan_for(plugin.id(), 30).unwrap()).collect();
            drop(loans);
            (host, plugin)
        });
        while !grower.is_finished() {
            let report = HubReport::read(&file).unwrap();
            assert!(report.findings.is_empty(), "{report}");
        }
        let (_host, _plugin) = grower.join().unwrap();
        let report = HubReport::read(&file).unwrap();
        assert!(report.findings.is_empty(), "{report}");
        assert!(report.parts.unwrap().classes.iter().all(|class| class.status.extents == 3));
    }
}

const GROWN: usize = HubHeader::GROWN.offset();

const CASES: &[Case<Grown>] = &[
    (Magic, "header magic", |h| h.put(0, *b"RAPAHUC\0")),
    (Growth, "header growth, class 4", |h| h.put(GROWN + 4, [3])),
    (Growth, "header growth, class 6", |h| h.put(GROWN + 6, [1])),
    (Reserved, "header padding at 244", |h| h.put(255, [1])),
    (ShapeDiffers, "header size", |h| h.put_u64(HubHeader::CURRENT_SIZE, 0, 1)),
    (ShapeDiffers, "header extents", |h| h.put_u32(HubHeader::EXTENT_COUNT, 0, 7)),
    (ShapeDiffers, "class 1 slots", |h| h.put_u32(SizeClassHeader::TOTAL_SLOTS, h.class(1), 4)),
    (ShapeDiffers, "class 1 extents", |h| h.put(h.class(1) + 21, [1])),
    (ShapeDiffers, "class 4 slot size", |h| h.put_u32(SizeClassHeader::SLOT_SIZE, h.class(4), 4096)),
    (ShapeDiffers, "class 1 offset of extent 1", |h| h.put(h.class(1) + 24 + 8, [1])),
    (ShapeDiffers, "class 1 offset of extent 2", |h| h.put(h.class(1) + 24 + 16, [1])),
    (ShapeDiffers, "class 1 extent 1's first index", |h| h.put(h.extent(1, 1) + 16, [5])),
    (ShapeDiffers, "class 4 extent 2's class", |h| h.put(h.extent(4, 2), [3])),
    (Fresh, "class 1 first fresh slot", |h| h.put_u32(SizeClassHeader::FRESH, h.class(1), 3)),
    (Fresh, "class 1 first fresh slot", |h| h.put_u32(SizeClassHeader::FRESH, h.class(1), 9)),
    (Fresh, "class 1 slot 7 of generation 0", |h| h.put(h.meta(1, 1, 3) + 4, [1])),
    (Fresh, "class 1 slot 7 of generation 0", |h| {
        h.put_u32(HubSlotMeta::NEXT_FREE, h.meta(1, 1, 2), 7);
        h.put_u32(HubSlotMeta::NEXT_FREE, h.meta(1, 1, 3), FREE_LIST_END);
        h.put_u32(HubSlotMeta::OWNER, h.meta(1, 1, 3), NO_OWNER);
    }),
    (SlotState, "class 4 slot 11 state", |h| h.put(h.meta(4, 2, 3) + 4, [9])),
    (Unlisted, "class 1 slot 7 of generation 0", |h| h.put_u32(SizeClassHeader::FRESH, h.class(1), 8)),
    (Owner, "class 4 slot 8 of generation 1 owner", |h| h.put_u32(HubSlotMeta::OWNER, h.meta(4, 2, 0), 77)),
    (FileTooShort, "file length", |h| h.bytes.truncate(h.bytes.len() - 1)),
    (FileTooShort, "file length", |h| h.bytes.truncate(h.extent(4, 2))),
    (FileTooLong, "file length", |h| h.bytes.resize(h.at.0.reach + 1, 0)),
];

#[test]
fn each_damage_is_one_finding_that_names_the_field() {
    check_damages(&busy(), CASES, |hub| Report::read(&hub.file()));
}

#[test]
fn grown_hubs_with_flipped_bits_are_answered() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut sound = busy();
    // Nobody is there, so that one look is enough.
    sound.put_u32(HubHeader::HOST_STATE, 0, 2);
    sound.put_u32(PeerEntry::STATE, sound.at.0.peer_table + size_of::<PeerEntry>(), 2);
    for _ in 0..1000 {
        let mut hub = sound.clone();
        for _ in 0..=random.usize(..4) {
            // In the header, which says how far it has grown, in the class headers, or anywhere.
            let at = match random.u8(..4) {
                0 => random.usize(HubHeader::GROWN.offset()..256),
                1 => random.usize(hub.class(0)..hub.class(5)),
                2 => random.usize(hub.at.0.rings..hub.bytes.len()),
                _ => random.usize(hub.extent(1, 1)..hub.extent(2, 1)),
            };
            hub.bytes[at] ^= 1 << random.u8(..8);
        }
        hub.bytes.truncate(random.usize(hub.bytes.len() / 2..2 * hub.bytes.len()));
        drop(hub.report().unwrap().to_string());
    }
}
