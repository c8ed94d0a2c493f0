//! Rubbish in the region, at any moment, between any two accesses: no panic, no endless loop, nothing handed out twice,
//! and after a fault a closed endpoint.
//!
//! `RAPACE_SHM_HOSTILE_TRIALS=1000000 cargo test --release -p rapace-shm-core --all-features --test hostile` runs a hundred
//! times as many trials as the default (some four hundred million calls). A failure names its seed;
//! `RAPACE_SHM_HOSTILE_SEED` repeats that one trial.
//!
//! Seen to fail on these mutants of core: no claim in the ledger (two guards overlap); no bound on the free list's walk
//! (longer than there are slots, or endless); a free list whose head is not checked against the number of slots (an
//! access outside the region); a payload length that is not checked against the slot.

mod common;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::watched::{Watch, Watched};
use common::{HeapRegion, SharedLedger, region};
use fastrand::Rng;
use rapace_shm_core::endpoint::Polled;
use rapace_shm_core::layout::{
    At, DataSegmentHeader, DescRingHeader, FrameFlags, INLINE_PAYLOAD_SIZE, MsgDescHot, SegmentHeader, SegmentOffsets,
    ShmSessionConfig, SlotMeta, calculate_segment_size,
};
use rapace_shm_core::link::{Frozen, Link, LinkError, Loan, Payload, RecvError, SendError};
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::Step;

const CALLS: usize = 200;
/// More accesses than any call may need, in a session this small: a compare-exchange is tried 65536 times at most.
const ACCESSES: u64 = 1 << 18;

fn number_from(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// Runs trials with seeds of their own.
fn trials(share: u64, trial: impl Fn(u64)) {
    let count = number_from("RAPACE_SHM_HOSTILE_TRIALS").unwrap_or(10_000) * share;
    let only = number_from("RAPACE_SHM_HOSTILE_SEED");
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| trial(seed))) {
            eprintln!("repeat with RAPACE_SHM_HOSTILE_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Writes rubbish now and then, before an access of somebody else.
struct Vandal {
    rng: RefCell<Rng>,
    /// How many of 256 accesses it precedes.
    rate: Cell<u8>,
    /// Words that mean something.
    targets: Vec<usize>,
    /// Accesses since the last call began.
    accesses: Cell<u64>,
}

impl Vandal {
    fn new(seed: u64, config: &ShmSessionConfig) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rate = rng.choice([1, 4, 16, 128]).unwrap_or(1);
        Self { targets: targets(config), rate: Cell::new(rate), rng: RefCell::new(rng), accesses: Cell::new(0) }
    }

    fn rubbish(&self, region: &HeapRegion) {
        let mut rng = self.rng.borrow_mut();
        let targeted = rng.u8(..) < 200;
        let offset = match rng.choice(&self.targets) {
            Some(target) if targeted => *target,
            _ => rng.usize(..region.size() - 8) & !3,
        };
        let word = region.u32(At::new(offset));
        let seen = word.load(Ordering::Relaxed);
        let value = match rng.u8(..8) {
            0 => 0,
            1 => u32::MAX,
            2 => rng.u32(..6),
            3 => seen.wrapping_add(1),
            4 => seen.wrapping_sub(1),
            5 => seen ^ 1 << rng.u32(..32),
            // What stands elsewhere: an old generation, another slot.
            6 => rng.choice(&self.targets).map_or(0, |other| region.u32(At::new(*other)).load(Ordering::Relaxed)),
            _ => rng.u32(..),
        };
        word.store(value, Ordering::Relaxed);
    }
}

impl Watch for Vandal {
    fn access(&self, region: &HeapRegion) -> bool {
        self.accesses.set(self.accesses.get() + 1);
        assert!(self.accesses.get() < ACCESSES, "a call does not end");
        if self.rng.borrow_mut().u8(..) < self.rate.get() {
            self.rubbish(region);
        }
        true
    }
}

/// The halves of every word of the headers, the metadata, the free links and the descriptors.
fn targets(config: &ShmSessionConfig) -> Vec<usize> {
    let offsets = SegmentOffsets::calculate(config).unwrap();
    let header = DataSegmentHeader::FREE_HEAD.within(offsets.data_header).offset();
    let mut targets = vec![header, header + 4];
    targets.extend((0..size_of::<SegmentHeader>()).step_by(4));
    for ring in [offsets.a_to_b_ring, offsets.b_to_a_ring] {
        targets.extend((0..size_of::<DescRingHeader>()).step_by(4).map(|offset| ring + offset));
        let descriptors = size_of::<DescRingHeader>()..size_of::<DescRingHeader>() + 64 * config.ring_capacity as usize;
        targets.extend(descriptors.step_by(4).map(|offset| ring + offset));
    }
    targets.extend((0..size_of::<DataSegmentHeader>()).step_by(4).map(|offset| offsets.data_header + offset));
    for slot in 0..config.slot_count as usize {
        let meta = offsets.slot_meta + slot * size_of::<SlotMeta>();
        targets.extend([meta, meta + 4, offsets.slot_data + slot * config.slot_size as usize]);
    }
    targets
}

type Victim = Polled<Watched<Vandal>, SharedLedger>;

/// One side, with what it holds.
struct Side {
    link: Link<Victim>,
    loans: Vec<Loan<Victim>>,
    payloads: Vec<Payload<Victim>>,
    kept: Vec<Frozen<Victim>>,
    /// Since the last reset a fault was reported.
    faulted: bool,
    /// Since the last reset an end was closed, by a fault or by the peer's.
    ended: bool,
}

impl Side {
    fn new(link: Link<Victim>) -> Self {
        Self { link, loans: Vec::new(), payloads: Vec::new(), kept: Vec::new(), faulted: false, ended: false }
    }

    /// One call, chosen at random. Whatever comes back is an answer that the documentation names.
    fn call(&mut self, rng: &mut Rng, max: usize) {
        let descriptor = MsgDescHot { flags: FrameFlags::DATA, ..MsgDescHot::data(rng.u64(..)) };
        let max_sent = max.max(INLINE_PAYLOAD_SIZE);
        let bytes = [7; 100];
        let bytes = &bytes[..rng.usize(..100)];
        match rng.u8(..19) {
            0..3 => {
                let sent = self.link.split().0.try_send(&descriptor, bytes);
                assert!(bytes.len() <= max_sent || sent.is_err());
                self.sent(sent);
            }
            3 => {
                let step = self.link.split().0.poll_send(&descriptor, bytes).map(drop);
                self.sent(step);
                self.link.split().0.disarm();
            }
            4..6 => match self.link.split().0.try_loan(bytes.len()) {
                Ok(mut loan) => {
                    assert!(loan.len() == bytes.len() && loan.len() <= max);
                    loan.fill(7);
                    self.loans.push(loan);
                }
                Err(error) => self.sent(Err(error)),
            },
            6 | 7 => {
                if let Some(loan) = self.loans.pop() {
                    match self.link.split().0.try_send_loan(&descriptor, loan) {
                        Ok(()) => {}
                        Err(unsent) => {
                            self.loans.push(unsent.loan);
                            self.sent(Err(unsent.error));
                        }
                    }
                }
            }
            8 => {
                let fed = self.link.split().0.feed(&descriptor, bytes);
                self.sent(fed);
                self.link.split().0.flush();
            }
            9..13 => match self.link.split().1.try_recv() {
                Ok(None) => {}
                Ok(Some(message)) => {
                    assert!(!self.faulted, "received after a fault");
                    assert!(message.len() <= max_sent && message.payload().len() == message.len());
                    std::hint::black_box(message.payload().iter().fold(0, |sum, byte| sum ^ byte));
                    if rng.bool() && message.len() > 16 {
                        self.payloads.push(message.into_payload());
                    }
                }
                Err(error) => self.received(error),
            },
            13 => {
                match self.link.split().1.poll_recv() {
                    Ok(Step::Ready(message)) => assert!(message.len() <= max_sent),
                    Ok(Step::Sleep(_)) => {}
                    Err(error) => self.received(error),
                }
                self.link.split().1.disarm();
            }
            14 => drop(self.payloads.pop()),
            15 | 16 => self.send_frozen(rng, &descriptor),
            17 => drop(self.kept.pop()),
            _ => {
                drop(self.loans.pop());
                let status = self.link.status();
                assert!(status.slots.free_list_len <= status.slots.total && !status.to_string().is_empty());
            }
        }
    }

    /// Freezes a loan if there is one, and sends some of what is frozen.
    fn send_frozen(&mut self, rng: &mut Rng, descriptor: &MsgDescHot) {
        self.kept.extend(self.loans.pop().map(Loan::freeze));
        let Some(kept) = rng.choice(&self.kept) else { return };
        std::hint::black_box(kept.iter().fold(0, |sum, byte| sum ^ byte));
        let from = rng.usize(..=kept.len());
        let slice = kept.slice(from..rng.usize(from..=kept.len())).expect("within");
        let sent = self.link.split().0.try_send_frozen(descriptor, slice);
        self.sent(sent);
    }

    fn sent(&mut self, result: Result<(), SendError>) {
        match result {
            Ok(()) => assert!(!self.faulted, "sent after a fault"),
            Err(SendError::PeerFault(fault)) => {
                assert!(!fault.to_string().is_empty());
                (self.faulted, self.ended) = (true, true);
            }
            Err(SendError::ForeignLoan) => panic!("it was this session's"),
            Err(SendError::Full | SendError::NoSlot) => {
                assert!(!self.faulted, "open after a fault");
            }
            Err(_) => self.ended = true,
        }
    }

    fn received(&mut self, error: RecvError) {
        self.ended = true;
        if let RecvError::PeerFault(fault) = error {
            assert!(!fault.to_string().is_empty());
            self.faulted = true;
        }
    }

    /// As after the peer's death; also what makes a side that has ended good again.
    fn reset(&mut self) {
        match self.link.reset() {
            Ok(_) => (self.faulted, self.ended) = (false, false),
            Err(LinkError::PeerFault(_)) => {}
            Err(error) => panic!("nothing is under way: {error}"),
        }
    }

    /// No two guards of one endpoint share a byte, whatever the free list says.
    fn check_disjoint(&self) {
        let loans = self.loans.iter().map(|loan| loan.as_ptr_range());
        let payloads = self.payloads.iter().map(|payload| payload.as_ptr_range());
        let kept = self.kept.iter().map(|kept| kept.as_ptr_range());
        let mut ranges: Vec<Range<*const u8>> =
            loans.chain(payloads).chain(kept).filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "two guards overlap");
    }
}

fn shape(rng: &mut Rng) -> ShmSessionConfig {
    ShmSessionConfig { ring_capacity: 1 << rng.u32(..4), slot_size: rng.u32(1..20) * 4, slot_count: rng.u32(1..6) }
}

fn victim(region: &HeapRegion, vandal: &Arc<Vandal>, slots: u32) -> Victim {
    Polled::new(Watched::new(region.clone(), vandal.clone()), SharedLedger::new(slots))
}

#[test]
#[allow(clippy::arc_with_non_send_sync)] // one thread
fn rubbish_between_any_two_accesses_of_a_session() {
    trials(1, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let config = shape(&mut rng);
        let region = region(calculate_segment_size(&config).unwrap());
        let vandal = Arc::new(Vandal::new(seed, &config));
        let rate = vandal.rate.replace(0);
        let a = Link::create(victim(&region, &vandal, config.slot_count), config).unwrap();
        let b = Link::attach(victim(&region, &vandal, config.slot_count)).unwrap();
        let mut sides = [Side::new(a), Side::new(b)];
        // A quiet start, so that there is something to spoil.
        for call in 0..CALLS {
            vandal.rate.set(if call < 10 { 0 } else { rate });
            vandal.accesses.set(0);
            let side = &mut sides[rng.usize(..2)];
            if side.ended && rng.u8(..) < 64 {
                side.reset();
            } else {
                side.call(&mut rng, config.slot_size as usize);
            }
            side.check_disjoint();
        }
        // Guards and halves go while the rubbish goes on.
        vandal.accesses.set(0);
        drop(sides);
    });
}

/// Headers and shapes that the newcomer did not make.
#[test]
#[allow(clippy::arc_with_non_send_sync)] // one thread
fn attaching_to_rubbish() {
    trials(10, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let config = shape(&mut rng);
        let size = calculate_segment_size(&config).unwrap();
        let region = region(size);
        let vandal = Arc::new(Vandal::new(seed, &config));
        let rate = vandal.rate.replace(0);
        let creator = Link::create(victim(&region, &vandal, config.slot_count), config).unwrap();
        for _ in 0..rng.usize(..4) {
            let offset = rng.usize(..size_of::<SegmentHeader>() / 4) * 4;
            let any = rng.u32(..);
            let value = rng.choice([0, 1, 2, 3, 1 << 31, u32::MAX, any]).unwrap_or(any);
            region.u32(At::new(offset)).store(value, Ordering::Relaxed);
        }
        vandal.rate.set(rate);
        if let Ok(link) = Link::attach(victim(&region, &vandal, config.slot_count)) {
            let mut side = Side::new(link);
            // The header may by now say something else than it did.
            let max = side.link.session().config().slot_size as usize;
            for _ in 0..20 {
                vandal.accesses.set(0);
                side.call(&mut rng, max);
                side.check_disjoint();
            }
            vandal.accesses.set(0);
        }
        drop(creator);
    });
}
