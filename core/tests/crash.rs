//! A peer killed at every single access to the shared memory, one run per access: nothing leaks, no slot is handed out
//! twice, the survivor's own work is untouched, and the next peer finds a session as good as new.
//!
//! "Killed" is an unwinding from within the access, after which no access of that peer has any effect: what its
//! destructors would do to the memory does not happen, just as with `SIGKILL`.
//!
//! Seen to fail on these mutants of core: `reset` without cutting the free list off (a freed slot is still listed: a fault);
//! `reclaim` that keeps what is marked in flight (slots leak); `reset` that leaves the rings as they were (the newcomer
//! receives the dead one's messages); `reset` that leaves a dead peer's share in a lent slot (slots leak).

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::watched::{Watch, Watched};
use common::{HeapEndpoint, HeapLink, HeapRegion, SharedLedger, endpoint, leaked, region};
use rapace_shm_core::endpoint::{Endpoint, Polled};
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::{Frozen, Link, Loan, Message, Payload, Receiver, Sender};
use rapace_shm_core::region::ByteRegion;
use rapace_shm_core::wake::Step;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 64, slot_count: 16 };

/// Kills at one access; from then on nothing happens any more.
struct Killer {
    left: AtomicU64,
    dead: AtomicBool,
}

/// What a killed peer unwinds with.
struct Killed;

impl Killer {
    fn at(access: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(access), dead: AtomicBool::new(false) })
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

impl Watch for Killer {
    fn access(&self, _: &HeapRegion) -> bool {
        if self.is_dead() {
            return false;
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.dead.store(true, Ordering::Relaxed);
            resume_unwind(Box::new(Killed));
        }
        true
    }
}

type Mortal = Polled<Watched<Killer>, SharedLedger>;

fn mortal(region: &HeapRegion, killer: &Arc<Killer>) -> Mortal {
    Polled::new(Watched::new(region.clone(), killer.clone()), SharedLedger::new(CONFIG.slot_count))
}

/// Runs a peer's life; says whether it was killed before its end.
fn dies<T>(life: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(_) => false,
        Err(reason) if reason.is::<Killed>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

fn slot(number: u64) -> [u8; 40] {
    [number.to_le_bytes()[0]; 40]
}

fn frozen<E: Endpoint>(tx: &mut Sender<E>, number: u64) -> Frozen<E> {
    let mut loan = tx.try_loan(40).unwrap();
    loan.append(&slot(number));
    loan.freeze()
}

/// Everything that a peer does, once: receive inline, in place and on loan from the other, hold, free, loan, send in place
/// and copied, in batches, to read on, give up a loan, wait for data, space and slots, fill the ring, close.
fn live<E>(tx: &mut Sender<E>, rx: &mut Receiver<E>)
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    let held: Option<Payload<E>> = rx.try_recv().unwrap().map(Message::into_payload);
    drop(rx.try_recv().unwrap());
    let mut loan = tx.try_loan(40).unwrap();
    loan.append(&slot(1));
    tx.try_send_loan(&MsgDescHot::data(100), loan).unwrap();
    drop(tx.try_loan(40).unwrap());
    let kept = [1, 2].map(|number| frozen(tx, number));
    tx.try_send_frozen(&MsgDescHot::data(100), &kept[0]).unwrap();
    tx.try_send_frozen(&MsgDescHot::data(100), &kept[0]).unwrap();
    let [sent, unsent] = kept;
    drop(unsent);
    let _ = tx.feed(&MsgDescHot::data(101), &slot(2));
    let _ = tx.feed(&MsgDescHot::data(102), b"inline");
    tx.flush();
    drop(rx.try_recv().unwrap());
    let _ = rx.poll_recv().unwrap();
    rx.disarm();
    let loans: Vec<Loan<E>> = std::iter::from_fn(|| tx.try_loan(20).ok()).collect();
    let _ = tx.poll_loan(20).unwrap();
    drop(loans);
    for number in 103..110 {
        if let Step::Sleep(_) = tx.poll_send(&MsgDescHot::data(number), &slot(3)).unwrap() {
            break;
        }
    }
    tx.disarm();
    drop(held);
    drop(sent);
    tx.close();
    rx.close();
}

/// What the survivor has in its hands when the other dies.
struct Survivor {
    link: HeapLink,
    loan: Option<Loan<HeapEndpoint>>,
    /// Sent to the other, and read on.
    kept: [Frozen<HeapEndpoint>; 2],
    payloads: Vec<Payload<HeapEndpoint>>,
}

impl Survivor {
    /// Sends one message inline and two in slots that it reads on, and takes a loan.
    fn start(mut link: HeapLink) -> Self {
        let (tx, _) = link.split();
        let kept = [1, 3].map(|number| frozen(tx, number));
        tx.try_send_frozen(&MsgDescHot::data(1), &kept[0]).unwrap();
        tx.try_send(&MsgDescHot::data(2), b"inline").unwrap();
        tx.try_send_frozen(&MsgDescHot::data(3), &kept[1]).unwrap();
        let mut loan = tx.try_loan(40).unwrap();
        loan.copy_from_slice(&slot(9));
        Self { link, loan: Some(loan), kept, payloads: Vec::new() }
    }

    /// Goes on as if nothing had happened: takes what arrived and keeps the first two payloads, of which one is lent.
    fn carry_on(&mut self) {
        let (tx, rx) = self.link.split();
        while let Ok(Some(message)) = rx.try_recv() {
            assert!((100..110).contains(&message.descriptor().msg_id), "torn: {:?}", message.descriptor());
            if message.descriptor().payload_slot < CONFIG.slot_count {
                assert!(message.payload().iter().all(|byte| *byte == message.payload()[0]) && message.len() == 40);
                if self.payloads.len() < 2 {
                    self.payloads.push(message.into_payload());
                }
            }
        }
        let _ = tx.try_send(&MsgDescHot::data(4), &slot(4));
    }

    /// Resets for a new peer, exchanges something with it, and finds everything where it was.
    fn replace_peer(mut self, region: &HeapRegion) {
        let mine = 3 + u32::try_from(self.payloads.len()).unwrap();
        let received: Vec<u8> = self.payloads.iter().map(|payload| payload[0]).collect();
        self.link.reset().expect("nothing of the survivor's is under way");
        assert_eq!(leaked(&self.link), mine, "everything but the survivor's own is free");
        let mut other = Link::attach(endpoint(region, CONFIG.slot_count)).expect("the dead one's side is vacant");
        assert!(other.split().1.try_recv().unwrap().is_none(), "the dead one's messages are gone");
        every_slot_once(&mut self.link, &mut other, CONFIG.slot_count - mine);
        let loan = self.loan.take().unwrap();
        assert_eq!(*loan, slot(9), "nobody else wrote into the survivor's loan");
        for (payload, first) in self.payloads.drain(..).zip(received) {
            assert!(payload.iter().all(|byte| *byte == first), "nobody else wrote into the survivor's payloads");
        }
        for (kept, number) in self.kept.iter().zip([1, 3]) {
            assert_eq!(**kept, slot(number), "nobody else wrote into the survivor's frozen bytes");
            self.link.split().0.try_send_frozen(&MsgDescHot::data(5), kept).unwrap();
            let again = other.split().1.try_recv().unwrap().unwrap();
            assert_eq!(again.payload().as_ptr(), kept.as_ptr(), "the dead one has no share in them");
        }
        drop(self.kept);
        self.link.split().0.try_send_loan(&MsgDescHot::data(5), loan).unwrap();
        assert_eq!(other.split().1.try_recv().unwrap().unwrap().payload(), slot(9));
        assert_eq!(leaked(&self.link), 0);
    }
}

/// Both together get every free slot, each exactly once, and can use it.
fn every_slot_once(a: &mut HeapLink, b: &mut HeapLink, free: u32) {
    let mut loans = Vec::new();
    loop {
        let link = if loans.len() % 2 == 0 { &mut *a } else { &mut *b };
        let Ok(mut loan) = link.split().0.try_loan(64) else { break };
        loan.fill(u8::try_from(loans.len()).unwrap());
        loans.push(loan);
    }
    assert_eq!(loans.len(), free as usize);
    for (number, loan) in loans.iter().enumerate() {
        assert!(loan.iter().all(|byte| usize::from(*byte) == number), "slot {:?} was handed out twice", loan.slot());
    }
}

/// Runs `scenario` once per access; it says whether the peer died before its life was over.
fn at_every_access(mut scenario: impl FnMut(u64) -> bool) {
    let accesses = (1..).take_while(|access| scenario(*access)).count();
    assert!(accesses > 200, "only {accesses} kill points: the mortal's life has become short");
}

#[test]
fn the_opener_killed_at_any_access() {
    at_every_access(|access| {
        let region = region(calculate_segment_size(&CONFIG).unwrap());
        let mut survivor = Survivor::start(Link::create(endpoint(&region, CONFIG.slot_count), CONFIG).unwrap());
        let killer = Killer::at(access);
        let died = dies(|| {
            let (mut tx, mut rx) = Link::attach(mortal(&region, &killer)).unwrap().into_split();
            live(&mut tx, &mut rx);
        });
        survivor.carry_on();
        survivor.replace_peer(&region);
        died
    });
}

#[test]
fn the_creator_killed_at_any_access_after_the_opener_came() {
    at_every_access(|access| {
        let region = region(calculate_segment_size(&CONFIG).unwrap());
        let killer = Killer::at(u64::MAX);
        let mut link = Link::create(mortal(&region, &killer), CONFIG).unwrap();
        let mut survivor = Survivor::start(Link::attach(endpoint(&region, CONFIG.slot_count)).unwrap());
        killer.left.store(access, Ordering::Relaxed);
        let died = dies(|| {
            let (tx, rx) = link.split();
            live(tx, rx);
        });
        // What is left of a process that is gone.
        killer.dead.store(true, Ordering::Relaxed);
        drop(link);
        survivor.carry_on();
        survivor.replace_peer(&region);
        died
    });
}

/// Creating is not survivable, and need not be: nobody can attach before it is over.
#[test]
fn a_segment_whose_creator_was_killed_before_it_was_done_is_refused_or_whole() {
    let mut access = 0;
    loop {
        access += 1;
        let region = region(calculate_segment_size(&CONFIG).unwrap());
        let killer = Killer::at(access);
        let died = dies(|| std::mem::forget(Link::create(mortal(&region, &killer), CONFIG).unwrap()));
        killer.dead.store(true, Ordering::Relaxed);
        match Link::attach(endpoint(&region, CONFIG.slot_count)) {
            Ok(mut late) => {
                late.reset().unwrap();
                assert_eq!(leaked(&late), 0);
            }
            Err(_) => assert!(died, "a finished segment is refused"),
        }
        if !died {
            break;
        }
    }
    assert!(access > 20);
}

/// A newcomer may die, too, again and again.
#[test]
fn every_newcomer_killed_at_any_access_one_after_the_other() {
    let region = region(calculate_segment_size(&CONFIG).unwrap());
    let mut link = Link::create(endpoint(&region, CONFIG.slot_count), CONFIG).unwrap();
    at_every_access(|access| {
        let killer = Killer::at(access);
        let died = dies(|| {
            let (mut tx, mut rx) = Link::attach(mortal(&region, &killer)).unwrap().into_split();
            live(&mut tx, &mut rx);
        });
        killer.dead.store(true, Ordering::Relaxed);
        link.reset().unwrap();
        assert_eq!(leaked(&link), 0);
        died
    });
}
