//! The bytes beside the published crate's own: a fresh hub of ours differs in the words that this project adds, and in
//! nothing else. Compared are the files, as they are made by either crate, with all their bytes: 115,380,416 for
//! the default shape.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rapace_shm::{HubConfig, HubHost};
use rapace_transport_shm as old;

use crate::common::Folder;

/// The words that a host of ours writes when it creates a hub, by their offsets in bytes, and what may be in them: it is
/// attached, and it is awake, with a fence of its own (4) where the kernel has no barrier for it (1).
const ADDED: [(usize, &[u32]); 2] = [(72, &[1]), (80, &[1, 4])];

const BLOCK: usize = 1 << 16;

/// Where two files differ, in bytes from their beginning: the first 64 places. Equal blocks are told by one comparison each.
fn differences(ours: &File, theirs: &File) -> Vec<usize> {
    let [len, other] = [ours, theirs].map(|file| usize::try_from(file.metadata().unwrap().len()).unwrap());
    assert_eq!(len, other);
    let [mut a, mut b] = [vec![0; BLOCK], vec![0; BLOCK]];
    let mut different = Vec::new();
    for at in (0..len).step_by(BLOCK) {
        let len = BLOCK.min(len - at);
        ours.read_exact_at(&mut a[..len], at as u64).unwrap();
        theirs.read_exact_at(&mut b[..len], at as u64).unwrap();
        if a[..len] != b[..len] {
            different.extend((0..len).filter(|byte| a[*byte] != b[*byte]).map(|byte| at + byte));
        }
    }
    different.truncate(64);
    different
}

fn word(file: &File, at: usize) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at as u64).unwrap();
    u32::from_le_bytes(bytes)
}

/// A fresh hub of ours and one of the published crate, of the same shape.
fn compare(max_peers: u16, ring_capacity: u32) {
    let folder = Folder::new();
    let [ours, theirs] = [folder.join("ours"), folder.join("theirs")];
    let _ours = HubHost::create_at(&ours, HubConfig { max_peers, ring_capacity, ..HubConfig::default() }).unwrap();
    let _theirs = old::HubHost::create(&theirs, old::HubConfig { max_peers, ring_capacity }).unwrap();
    let [ours, theirs] = [ours, theirs].map(|path| File::open(path).unwrap());
    assert_eq!(differences(&ours, &theirs), ADDED.map(|(at, _)| at));
    for (at, values) in ADDED {
        assert!(values.contains(&word(&ours, at)), "{} at byte {at}", word(&ours, at));
        assert_eq!(word(&theirs, at), 0, "not reserved: byte {at}");
    }
}

#[test]
fn a_fresh_hub_equals_the_published_crates_outside_of_the_words_that_are_added() {
    compare(32, 256);
    compare(5, 8);
    compare(2, 1);
}
