//! `Vec` and `Box` in slots: alignment is honoured or refused, and everything comes back.
#![cfg(feature = "allocator")]

mod common;

use std::alloc::Layout;

use common::{HeapEndpoint, HeapLink, leaked, pair};
use rapace_shm_core::allocator::allocator_api2::alloc::Allocator;
use rapace_shm_core::allocator::allocator_api2::boxed::Box;
use rapace_shm_core::allocator::allocator_api2::vec::Vec;
use rapace_shm_core::allocator::{ALLOCATION_HEADER_SIZE, ShmAllocator};
use rapace_shm_core::layout::ShmSessionConfig;
use rapace_shm_core::link::LinkError;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 256, slot_count: 4 };

fn link() -> (HeapLink, ShmAllocator<HeapEndpoint>) {
    let (link, _) = pair(CONFIG);
    let allocator = link.allocator();
    (link, allocator)
}

#[test]
fn a_vec_grows_within_its_slot_and_then_no_further() {
    let (link, allocator) = link();
    assert_eq!(allocator.max_allocation_size(), 256 - ALLOCATION_HEADER_SIZE);
    let mut numbers = Vec::new_in(allocator.clone());
    numbers.extend(0..30_u64);
    assert_eq!((numbers.len(), leaked(&link)), (30, 1));
    assert!(numbers.try_reserve_exact(1).is_err(), "248 bytes and a header do not fit 256");
    assert_eq!(numbers.iter().sum::<u64>(), 29 * 30 / 2, "what failed to grow is as it was");
    numbers.shrink_to(10);
    drop(numbers);
    assert_eq!(leaked(&link), 0);
}

#[test]
fn a_box_runs_its_destructor_and_gives_its_slot_back_from_any_thread() {
    let (link, allocator) = link();
    let text = Box::new_in(String::from("dropped, too"), allocator);
    assert_eq!(leaked(&link), 1);
    std::thread::spawn(move || assert_eq!(text.len(), 12)).join().unwrap();
    assert_eq!(leaked(&link), 0);
}

#[test]
fn every_alignment_is_honoured_or_refused() {
    let (link, allocator) = link();
    for power in 0..12 {
        for size in [1, 8, 100, 240, 241, usize::MAX >> 12] {
            let align = 1 << power;
            let layout = Layout::from_size_align(size, align).unwrap();
            match allocator.allocate(layout) {
                Ok(bytes) => {
                    assert_eq!(bytes.cast::<u8>().as_ptr().addr() % align, 0);
                    assert!(bytes.len() >= size && size <= 240);
                    // SAFETY: allocated right here, with this layout.
                    unsafe { allocator.deallocate(bytes.cast(), layout) };
                }
                Err(_) => assert!(size + align + ALLOCATION_HEADER_SIZE > 256, "{size} bytes on {align} fit"),
            }
            assert_eq!(leaked(&link), 0);
        }
    }
}

#[test]
fn it_fails_when_no_slot_is_free_and_works_again_afterwards() {
    let (link, allocator) = link();
    let mut boxes: std::vec::Vec<_> = (0..4).map(|number| Box::new_in(number, allocator.clone())).collect();
    assert!(Box::try_new_in(4, allocator.clone()).is_err());
    assert!(boxes.iter().enumerate().all(|(number, boxed)| **boxed == number));
    boxes.pop();
    assert_eq!(*Box::try_new_in(5, allocator).unwrap(), 5);
    drop(boxes);
    assert_eq!(leaked(&link), 0);
}

#[test]
fn nothing_needs_no_slot() {
    let (link, allocator) = link();
    let nothing: std::vec::Vec<_> = (0..9).map(|_| Box::new_in((), allocator.clone())).collect();
    assert_eq!((nothing.len(), leaked(&link)), (9, 0));
}

#[test]
fn growing_moves_the_bytes_when_the_alignment_asks_for_it() {
    let (link, allocator) = link();
    let (old, new) = (Layout::from_size_align(8, 1).unwrap(), Layout::from_size_align(32, 128).unwrap());
    let bytes = allocator.allocate(old).unwrap().cast::<u8>();
    // SAFETY: eight bytes were allocated.
    unsafe { bytes.write_bytes(7, 8) };
    // SAFETY: allocated above with `old`.
    let grown = unsafe { allocator.grow(bytes, old, new) }.unwrap().cast::<u8>();
    assert_eq!(grown.as_ptr().addr() % 128, 0);
    // SAFETY: 32 bytes were allocated, the first eight are written.
    assert_eq!(unsafe { grown.cast::<[u8; 8]>().read() }, [7; 8]);
    // SAFETY: allocated above with `new`.
    unsafe { allocator.deallocate(grown, new) };
    assert_eq!(leaked(&link), 0);
}

#[test]
fn what_is_allocated_survives_the_peer_and_its_replacement() {
    let (mut link, other) = pair(CONFIG);
    let mut kept = Vec::new_in(link.allocator());
    kept.extend([7_u8; 100]);
    let lost = Box::new_in(1, other.allocator());
    std::mem::forget(lost);
    drop(other);
    assert_eq!(link.reset(), Ok(1), "the peer's allocation");
    assert!(kept.iter().all(|byte| *byte == 7));
    drop(kept);
    assert_eq!(leaked(&link), 0);
    assert!(!matches!(link.reset(), Err(LinkError::Busy)));
}

#[test]
fn threads_share_an_allocator() {
    let (link, allocator) = link();
    std::thread::scope(|scope| {
        for own in 0..3_u8 {
            let allocator = allocator.clone();
            scope.spawn(move || {
                for _ in 0..5000 {
                    if let Ok(boxed) = Box::try_new_in([own; 64], allocator.clone()) {
                        assert_eq!(*boxed, [own; 64]);
                    }
                }
            });
        }
    });
    assert_eq!(leaked(&link), 0);
}
