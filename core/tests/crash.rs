//! A peer killed at every single access to the shared memory, one run per access: nothing leaks, no slot is handed out
//! twice, the survivor's own work is untouched, and the next peer finds a session as good as new.
//!
//! Seen to fail on these mutants of core: `reset` without cutting the free list off (a freed slot is still listed: a fault);
//! `reclaim` that keeps what is marked in flight (slots leak); `reset` that leaves the rings as they were (the newcomer
//! receives the dead one's messages); `reset` that leaves a dead peer's share in a lent slot (slots leak).

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::killer::{Killer, at_every_access, dies, frozen, live, slot};
use common::watched::Watched;
use common::{HeapEndpoint, HeapLink, HeapRegion, SharedLedger, endpoint, leaked, region};
use rapace_shm_core::endpoint::Polled;
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::{Frozen, Link, Loan, Payload};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 64, slot_count: 16 };

type Mortal = Polled<Watched<Killer>, SharedLedger>;

fn mortal(region: &HeapRegion, killer: &Arc<Killer>) -> Mortal {
    Polled::new(Watched::new(region.clone(), killer.clone()), SharedLedger::new(CONFIG.slot_count))
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
