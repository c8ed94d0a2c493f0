//! The region that the models run in notices what the layout does not allow.

use std::sync::atomic::Ordering;

use loom::thread;
use rapace_shm_core::layout::{At, Span};
use rapace_shm_core::region::{Region, Word};
use rapace_shm_loom_tests::{Fields, Lines, LoomRegion, check};

fn region() -> LoomRegion {
    let fields = Fields::new()
        .u32("count", At::new(0))
        .u64("head", At::new(8))
        .payload("slot", Span { offset: 16, len: 8 }, true)
        .payload("no slot", Span { offset: 24, len: 8 }, false);
    LoomRegion::new(&fields, Lines::Owned)
}

#[test]
#[should_panic(expected = "offset 4 is not declared, and used as u32 word")]
fn an_undeclared_offset_is_refused() {
    check(|| {
        region().u32(At::new(4)).load(Ordering::Relaxed);
    });
}

#[test]
#[should_panic(expected = "offset 8 is declared as U64 `head`, and used as u32 word")]
fn a_word_used_at_another_width_is_refused() {
    check(|| {
        region().u32(At::new(8)).load(Ordering::Relaxed);
    });
}

#[test]
#[should_panic(expected = "offset 12 is declared as U64 `head`, and used as u32 word")]
fn half_a_word_is_refused() {
    check(|| {
        region().u32(At::new(12)).load(Ordering::Relaxed);
    });
}

#[test]
#[should_panic(expected = "offset 16 is declared as Payload { link: true } `slot`, and used as u64 word")]
fn a_free_link_of_eight_bytes_is_refused() {
    check(|| {
        region().u64(At::new(16)).load(Ordering::Relaxed);
    });
}

#[test]
#[should_panic(expected = "offset 24 is declared as Payload { link: false } `no slot`, and used as u32 word")]
fn a_free_link_that_is_not_declared_is_refused() {
    check(|| {
        region().u32(At::new(24)).load(Ordering::Relaxed);
    });
}

#[test]
#[should_panic(expected = "is declared as U64 `head`, and used as payload")]
fn a_word_used_as_payload_is_refused() {
    check(|| {
        region().copy_out(Span { offset: 8, len: 8 }, &mut [0; 8]);
    });
}

#[test]
#[should_panic(expected = "is cleared although another thread has been in the region")]
fn words_in_use_are_not_cleared() {
    check(|| {
        let region = region();
        let other = region.clone();
        thread::spawn(move || other.u32(At::new(0)).store(1, Ordering::Relaxed)).join().unwrap();
        region.clear(Span { offset: 0, len: 16 });
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_payload_with_two_owners_is_reported() {
    check(|| {
        let region = region();
        let other = region.clone();
        let writing = thread::spawn(move || other.copy_in(Span { offset: 16, len: 8 }, &[1; 8]));
        region.copy_out(Span { offset: 16, len: 8 }, &mut [0; 8]);
        writing.join().unwrap();
    });
}

#[test]
fn a_payload_clobbers_its_link_and_a_link_its_payload() {
    check(|| {
        let region = region();
        let link = At::<u32>::new(16);
        region.copy_in(Span { offset: 16, len: 8 }, &[7; 8]);
        assert_eq!(region.u32(link).load(Ordering::Relaxed), u32::from_ne_bytes([7; 4]));
        region.u32(link).store(u32::from_ne_bytes([9; 4]), Ordering::Relaxed);
        let mut seen = [0; 8];
        region.copy_out(Span { offset: 16, len: 8 }, &mut seen);
        assert_eq!(seen, [9, 9, 9, 9, 7, 7, 7, 7]);
    });
}
