//! Hubs with nothing wrong, what the report says of them, and hubs of rubbish.
//!
//! Seen to fail when: a plugin that nobody has reserved is shown; a file is always read as a session's first; a session is
//! read as a hub's.

use rapace_shm::core::endpoint::PeerId;
use rapace_shm::core::layout::{HubHeader, PeerEntry, SizeClassHeader};
use rapace_shm::inspect::{FreeListName, HubReport, InspectError, Report, SegmentReport};
use rapace_shm::{ShmSession, ShmSessionConfig};

use crate::hub_segment::{CONFIG, Hub};
use crate::segment::{file_of, memfd_with};

#[test]
fn a_hub_in_use_has_no_findings_and_says_who_has_the_slots() {
    let report = Hub::busy().report().unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.looks, 1);
    let parts = report.parts.unwrap();
    assert_eq!(parts.config, CONFIG);
    let class = |number: usize| {
        let status = parts.classes[number].status;
        (status.free, status.allocated, status.in_flight, parts.classes[number].in_rings)
    };
    assert_eq!([0, 1, 2, 3, 4].map(class), [(16, 0, 0, 0), (3, 0, 1, 1), (2, 0, 2, 1), (3, 1, 0, 0), (4, 0, 0, 0)]);
    for (number, class) in parts.classes.iter().enumerate() {
        assert_eq!(class.list.name, FreeListName::OfClass(u8::try_from(number).unwrap()));
        assert_eq!(class.list.len, Some(class.status.free));
    }
    let owned: Vec<_> = parts.members.iter().map(|member| (member.id, member.owned, member.is_in_use())).collect();
    let expected = [
        (PeerId(0), [0, 0, 1, 1, 0], false),
        (PeerId(1), [0, 1, 0, 0, 0], true),
        (PeerId(2), [0, 0, 1, 0, 0], true),
        (PeerId(3), [0; 5], true),
        (PeerId(4), [0; 5], false),
    ];
    assert_eq!(owned, expected);
}

#[test]
fn the_text_is_one_fact_per_line_in_a_fixed_order() {
    let mut hub = Hub::busy();
    // As the clock has it, and as two waiting senders would have it.
    hub.put_u64(HubHeader::SLOT_WAITERS, 0, 1 << 2 | 1 << 33);
    hub.put_u64(PeerEntry::EPOCH, hub.entry(2), 9);
    hub.put_u64(PeerEntry::LAST_SEEN, hub.entry(2), 77);
    hub.put_u32(SizeClassHeader::QUOTA, hub.class(4), 3);
    let text = hub.report().unwrap().to_string();
    let expected = "\
file length             18112 bytes
hub version             2.0
host                    attached
shape                   8 descriptors per ring, at most 4 plugins
wait of host for any    awake, fences before it sleeps; sequence 0
waiting for a slot      plugin 2, host for plugin 1
slots in doubt          no
";
    assert!(text.starts_with(expected), "{text}");
    for fact in [
        "\nclass 2                 4 slots of 256 bytes\n",
        "\nclass 2 in flight       2, of which 1 in the rings\n",
        "\nclass 2 free list       2 slots, first 2, tag 3\n",
        "\nclass 4 quota           3 slots per plugin\n",
        "\nhost owns               1 of class 2, 1 of class 3\n",
        "\nplugin 1                attached; flags: active\n",
        "\nring 1→host             2 of 8 (25 %), head 5, tail 3\n",
        "\nplugin 2 heartbeat      number 9, 77 ns after 1970\n",
        "\nplugin 3                vacant; flags: reserved\n",
        "\nring host→3             0 of 8 (0 %), head 0, tail 0\n",
        "\nplugins                 3, room for 1\n",
        "\nfindings                none (one look)",
    ] {
        assert!(text.contains(fact), "no {fact:?} in {text}");
    }
    assert!(!text.contains("plugin 0") && !text.contains("plugin 4") && !text.contains("class 3 quota"), "{text}");
}

#[test]
fn what_a_file_is_follows_from_its_bytes() {
    let session = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let hub = Hub::busy();
    assert!(matches!(Report::read(&file_of(&session)).unwrap(), Report::Session(_)));
    assert!(matches!(Report::read(&hub.file()).unwrap(), Report::Hub(_)));
    assert!(matches!(Report::glance(&hub.file()).unwrap(), Report::Hub(_)));
    assert!(matches!(SegmentReport::read(&hub.file()), Err(InspectError::Hub)));
    assert!(matches!(HubReport::read(&file_of(&session)), Err(InspectError::Session)));
    let rubbish = Report::read(&memfd_with(&[b'#'; 4096])).unwrap_err();
    assert!(matches!(rubbish, InspectError::NotASegment { seen } if seen == [b'#'; 8]), "{rubbish}");
    let short = Report::read(&memfd_with(&hub.bytes[..255])).unwrap_err();
    assert!(matches!(short, InspectError::TooShort { len: 255, required: 256 }), "{short}");
}

/// Both are printed too: that must not fail either.
fn ask(hub: &Hub) {
    match Report::read(&hub.file()) {
        Ok(report) => drop(report.to_string()),
        Err(InspectError::TooShort { .. } | InspectError::NotASegment { .. } | InspectError::TooLarge { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn random_hubs_are_answered() {
    let mut random = fastrand::Rng::with_seed(4);
    let like = Hub::deserted();
    for trial in 0..1000 {
        let mut hub = like.clone();
        let sound = (trial % 50) * 320;
        // Ever more of a hub in front, so that ever later checks meet the rubbish.
        for byte in hub.bytes.iter_mut().skip(sound) {
            *byte = random.u8(..);
        }
        hub.put(0, *b"RAPAHUB\0");
        hub.bytes.truncate(random.usize(..=like.bytes.len()).max(256));
        // Nobody is there, so that one look is enough.
        hub.put(72, 2_u32.to_ne_bytes());
        ask(&hub);
    }
}

#[test]
fn hubs_with_flipped_bits_are_answered() {
    let mut random = fastrand::Rng::with_seed(5);
    let sound = Hub::deserted();
    // The bookkeeping in front of the slots' bytes, and the version among it.
    for _ in 0..3000 {
        let mut hub = sound.clone();
        for _ in 0..=random.usize(..4) {
            let at = random.usize(..hub.bytes.len());
            // The states stay: a doubted report takes its time.
            let is_state = (72..76).contains(&at) || (hub.at.peer_table..hub.at.rings).contains(&at);
            if !is_state {
                hub.bytes[at] ^= 1 << random.u8(..8);
            }
        }
        ask(&hub);
    }
}
