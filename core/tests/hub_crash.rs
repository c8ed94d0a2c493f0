//! A plugin killed at every single access to the shared memory, one run per access: nothing leaks, no slot is handed out
//! twice, and what the host and another plugin do is untouched; also while a third one is stopped in the middle of a step,
//! at every access of that one.
//!
//! Seen to fail on these mutants of core: no announcement before the head is exchanged, or before a slot is set free (it
//! leaks); announcements that are never looked at (likewise); no owner before the state changes; `free_unreceived` or
//! `free_owned` that does nothing; a reaper that takes for lost what is in the list (handed out twice); an announcement
//! that is cleared before the push. What takes two members at once is in the loom models.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::hub::{
    HeapHost, HostLink, HostSide, HubLoan, HubPayload, PluginLink, SMALL_HUB, host_of, hub_region, in_use, join,
};
use common::killer::{Killer, at_every_access, dies, live, slot};
use common::watched::Watched;
use common::{HeapEndpoint, HeapRegion, SharedLedger, endpoint};
use rapace_shm_core::endpoint::{PeerId, Polled};
use rapace_shm_core::hub::{HostEnd, HubHost, HubLink, HubPeer, Waits};
use rapace_shm_core::layout::{HubConfig, MsgDescHot};
use rapace_shm_core::link::Message;

const CONFIG: HubConfig = SMALL_HUB;
const SLOTS: u32 = 20;

type MortalLink = HubLink<Polled<Watched<Killer>, SharedLedger>>;

fn attach(region: &HeapRegion, killer: &Arc<Killer>, id: PeerId) -> MortalLink {
    let endpoint = Polled::new(Watched::new(region.clone(), killer.clone()), SharedLedger::new(SLOTS));
    HubPeer::attach(endpoint, id).unwrap()
}

/// Those who live on: the host and a plugin, each with something in its hands.
struct Survivors {
    region: HeapRegion,
    host: HeapHost,
    bystander: (HostLink, PluginLink),
    host_loan: Option<HubLoan<HostEnd<HostSide>>>,
    loan: Option<HubLoan<HeapEndpoint>>,
    payload: Option<HubPayload<HostEnd<HostSide>>>,
    /// What the host has received from the bystander.
    bystanders: Option<HubPayload<HostEnd<HostSide>>>,
}

impl Survivors {
    fn new() -> Self {
        let region = hub_region(&CONFIG);
        let mut host = host_of(&region, CONFIG);
        let mut bystander = join(&mut host, &region);
        let mut host_loan = bystander.0.split().0.try_loan(40).unwrap();
        host_loan.copy_from_slice(&slot(9));
        let mut loan = bystander.1.split().0.try_loan(40).unwrap();
        loan.copy_from_slice(&slot(8));
        bystander.1.split().0.try_send(&MsgDescHot::data(1), &slot(7)).unwrap();
        let received = bystander.0.split().1.try_recv().unwrap().unwrap().into_payload();
        let (host_loan, loan, bystanders) = (Some(host_loan), Some(loan), Some(received));
        Self { region, host, bystander, host_loan, loan, payload: None, bystanders }
    }

    /// The host's end of a plugin to be, with three messages on their way to it.
    fn expect(&mut self) -> HostLink {
        let mut link = self.host.reserve(Waits::Together).unwrap();
        let (tx, _) = link.split();
        tx.try_send(&MsgDescHot::data(1), &slot(1)).unwrap();
        tx.try_send(&MsgDescHot::data(2), b"inline").unwrap();
        tx.try_send(&MsgDescHot::data(3), &slot(3)).unwrap();
        link
    }

    /// Goes on as if nothing had happened: takes what arrived, keeps the first payload, and sends one more.
    fn carry_on(&mut self, link: &mut HostLink) {
        let (tx, rx) = link.split();
        while let Ok(Some(message)) = rx.try_recv() {
            assert!((100..110).contains(&message.descriptor().msg_id), "torn: {:?}", message.descriptor());
            if !message.descriptor().is_inline() {
                assert!(message.payload().iter().all(|byte| *byte == message.payload()[0]) && message.len() == 40);
                self.payload.get_or_insert(message.into_payload());
            }
        }
        let _ = tx.try_send(&MsgDescHot::data(4), &slot(4));
        drop(self.bystander.1.split().0.try_loan(300));
    }

    fn own(&self) -> u32 {
        3 + u32::from(self.payload.is_some())
    }

    /// Whoever lives gets every free slot, each exactly once, and can use it; returns how many there were.
    fn every_slot_once(&mut self) -> u32 {
        let (mut hosts, mut plugins) = (Vec::new(), Vec::new());
        let (link, plugin) = &mut self.bystander;
        let mut count = 0;
        loop {
            count += 1;
            if count % 2 == 0 {
                let Ok(mut loan) = link.split().0.try_loan(17) else { break };
                loan.fill(count);
                hosts.push((count, loan));
            } else {
                let Ok(mut loan) = plugin.split().0.try_loan(17) else { break };
                loan.fill(count);
                plugins.push((count, loan));
            }
        }
        let intact = hosts.iter().all(|(own, loan)| loan.iter().all(|byte| byte == own))
            && plugins.iter().all(|(own, loan)| loan.iter().all(|byte| byte == own));
        assert!(intact, "a slot was handed out twice");
        u32::from(count) - 1
    }

    /// Nothing of what the survivors hold has been touched, and with it everything comes back.
    fn let_go(&mut self) {
        assert_eq!(**self.host_loan.as_ref().unwrap(), slot(9), "somebody wrote into the host's loan");
        assert_eq!(**self.loan.as_ref().unwrap(), slot(8), "somebody wrote into the other plugin's loan");
        assert_eq!(**self.bystanders.as_ref().unwrap(), slot(7), "somebody wrote into the other plugin's message");
        if let Some(payload) = self.payload.take() {
            assert!(payload.iter().all(|byte| *byte == payload[0]), "somebody wrote into the host's payload");
        }
        let (link, plugin) = &mut self.bystander;
        plugin.split().0.try_send_loan(&MsgDescHot::data(5), self.loan.take().unwrap()).unwrap();
        let message = link.split().1.try_recv().unwrap().unwrap();
        assert_eq!(message.payload(), slot(8));
        link.split().0.try_send_loan(&MsgDescHot::data(6), self.host_loan.take().unwrap()).unwrap();
        assert_eq!(plugin.split().1.try_recv().unwrap().unwrap().payload(), slot(9));
        drop((message, self.bystanders.take()));
        assert_eq!(in_use(&self.host), 0);
    }
}

/// A plugin's life from its attaching on, up to its death.
fn dies_as(region: &HeapRegion, killer: &Arc<Killer>, id: PeerId) -> bool {
    let died = dies(|| {
        let mut link = attach(region, killer, id);
        let (tx, rx) = link.split();
        live(tx, rx);
    });
    killer.dead.store(true, Ordering::Relaxed);
    died
}

#[test]
fn a_plugin_killed_at_any_access_leaks_no_slot_and_gives_none_to_two() {
    at_every_access(|access| {
        let mut survivors = Survivors::new();
        let mut link = survivors.expect();
        let killer = Killer::at(access);
        let died = dies_as(&survivors.region, &killer, link.id());
        survivors.carry_on(&mut link);
        survivors.host.reap(link).unwrap();
        assert_eq!(in_use(&survivors.host), survivors.own(), "everything but the survivors' own is free");
        assert_eq!(survivors.every_slot_once(), SLOTS - survivors.own());
        // The number is given out again, and its place is as good as new.
        let link = survivors.host.reserve(Waits::Alone).unwrap();
        let mut next = HubPeer::attach(endpoint(&survivors.region, SLOTS), link.id()).unwrap();
        assert!(next.split().1.try_recv().unwrap().is_none(), "the dead one's messages are gone");
        next.split().0.try_send(&MsgDescHot::data(7), &slot(1)).unwrap();
        drop((next, link));
        survivors.let_go();
        died
    });
}

/// Takes a slot, gives it back, takes one again, sends it, and receives one: every way to have a slot in hand.
fn step_by_step(link: &mut MortalLink) {
    let (tx, rx) = link.split();
    drop(tx.try_loan(20).unwrap());
    tx.try_send(&MsgDescHot::data(100), &slot(2)).unwrap();
    drop(rx.try_recv().unwrap().map(Message::into_payload));
}

/// Stopped at one access, a plugin neither goes on nor dies while another one is reaped; whatever it has in hand stays its
/// own. The bound keeps the product of both lives within seconds: every 7th access of the one that dies.
#[test]
fn reaping_needs_no_step_of_a_plugin_that_is_stopped_in_the_middle_of_one() {
    let mut stops = 0;
    loop {
        stops += 1;
        let mut was_stopped = true;
        let mut access = 1 + stops % 7;
        loop {
            let mut survivors = Survivors::new();
            let (mut stopped_link, mut link) = (survivors.expect(), survivors.host.reserve(Waits::Together).unwrap());
            let stopper = Killer::at(u64::MAX);
            let mut stopped = attach(&survivors.region, &stopper, stopped_link.id());
            stopper.left.store(stops, Ordering::Relaxed);
            was_stopped &= dies(|| step_by_step(&mut stopped));
            stopper.dead.store(true, Ordering::Relaxed);
            let died = dies_as(&survivors.region, &Killer::at(access), link.id());
            survivors.carry_on(&mut link);
            survivors.host.reap(link).unwrap();
            // What the stopped one has is in use, or at most one slot is in no list.
            let listed = survivors.host.slot_status().free_list_len();
            assert_eq!(survivors.every_slot_once(), listed);
            let theirs = SLOTS - listed - survivors.own();
            assert!((2..=4).contains(&theirs), "{theirs} slots are the stopped one's, or on their way to it");
            // Then it dies as well.
            survivors.carry_on(&mut stopped_link);
            survivors.host.reap(stopped_link).unwrap();
            drop(stopped);
            assert_eq!(in_use(&survivors.host), survivors.own());
            assert_eq!(survivors.every_slot_once(), SLOTS - survivors.own());
            survivors.let_go();
            if !died {
                break;
            }
            access += 7;
        }
        if !was_stopped {
            break;
        }
    }
    assert!(stops > 60, "only {stops} places to stop at: the steps have become short");
}

/// Two die in the middle of a step at once, and are reaped one after the other.
#[test]
fn two_plugins_killed_in_the_middle_of_a_step_each() {
    for (first, second) in (1..60).flat_map(|first| (1..60).map(move |second| (first, second))) {
        let mut survivors = Survivors::new();
        let links = [survivors.expect(), survivors.host.reserve(Waits::Together).unwrap()];
        for (link, access) in links.iter().zip([first, second]) {
            let killer = Killer::at(u64::MAX);
            let mut plugin = attach(&survivors.region, &killer, link.id());
            killer.left.store(access, Ordering::Relaxed);
            let _ = dies(|| step_by_step(&mut plugin));
            killer.dead.store(true, Ordering::Relaxed);
        }
        for mut link in links {
            survivors.carry_on(&mut link);
            survivors.host.reap(link).unwrap();
        }
        assert_eq!(in_use(&survivors.host), survivors.own());
        assert_eq!(survivors.every_slot_once(), SLOTS - survivors.own());
        survivors.let_go();
    }
}

/// Creating is not survivable, and need not be: nobody can attach before it is over.
#[test]
fn a_hub_whose_host_was_killed_before_it_was_done_is_refused() {
    let mut access = 0;
    loop {
        access += 1;
        let region = hub_region(&CONFIG);
        let killer = Killer::at(access);
        let ledger = common::hub::SharedHostLedger::new(SLOTS);
        let endpoint = Polled::new(Watched::new(region.clone(), killer.clone()), ledger);
        let died = dies(|| std::mem::forget(HubHost::create(endpoint, CONFIG).unwrap()));
        assert_eq!(HubPeer::peek(&region).is_err(), died);
        if !died {
            break;
        }
    }
    assert!(access > 100);
}
