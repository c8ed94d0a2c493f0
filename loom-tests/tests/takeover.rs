//! Taking over against reaping: whoever receives a slot becomes its owner before the ring's tail moves, so that it is freed
//! exactly once, whether its receiver dies or its sender.

use loom::thread;
use rapace_shm_core::layout::{HubOffsets, HubSlotMeta, MsgDescHot};
use rapace_shm_core::link::Message;
use rapace_shm_core::region::InRegion;
use rapace_shm_loom_tests::{HUB, Hub, LARGE, Member, Mutation, Taken, check, check_at_every_access, killed};

/// What fills a slot of the largest class.
const BYTES: [u8; LARGE] = [7; LARGE];

/// The owner word of the first slot of the largest class, which is the one that the first message is in.
fn owner() -> usize {
    let metas = HubOffsets::calculate(&HUB).unwrap().extents[4] + 64;
    HubSlotMeta::OWNER.within(metas).offset()
}

/// Plugin 1 is killed at its access number `access` while it receives a message that it keeps; the host sends another one
/// if there is room, in the place of the first, and reaps; plugin 2 takes a slot meanwhile.
fn receiver_dies(access: u32, of_dying: Mutation) -> bool {
    let mut hub = Hub::new(Mutation::None, [of_dying, Mutation::None]);
    let living = Member::new(&mut hub.plugins[1], &Taken::default());
    hub.links[0].split().0.try_send(&MsgDescHot::data(1), &BYTES).unwrap();
    let mut dying = hub.plugins.remove(0);
    let end = dying.endpoint().region().life();
    let dying = thread::spawn(move || {
        let mut kept = None;
        let died = end.ends_at(access, || kept = dying.split().1.try_recv().unwrap());
        // Dead: what becomes of its guard and of its link has no effect.
        drop((kept, dying));
        died
    });
    let living = thread::spawn(move || living.allocate().is_some());
    let _ = hub.links[0].split().0.try_send(&MsgDescHot::data(2), &BYTES);
    let died = dying.join().unwrap();
    let link = hub.links.remove(0);
    hub.host.reap(link).unwrap();
    assert!(living.join().unwrap());
    assert_eq!(hub.host.settle(), 0);
    hub.assert_nothing_lost(1);
    died
}

#[test]
fn a_plugin_killed_while_it_takes_over_a_slot_takes_it_from_nobody() {
    let access = check_at_every_access(|access| receiver_dies(access, Mutation::None));
    assert!(access > 8, "only {access} kill points: receiving has become short");
}

#[test]
fn without_its_new_owner_a_slot_that_a_dead_plugin_had_received_is_lost() {
    let mutant = Mutation::LostStore(owner(), 1);
    // Right after it has received.
    killed("slots are lost", move || {
        receiver_dies(1000, mutant);
    });
}

/// Plugin 1 has sent a message and is dead. One thread of the host reads the message and lets go of it while another one
/// reaps the plugin, and plugin 2 takes the slot as soon as it is free.
fn sender_dies(of_host: Mutation) {
    let mut hub = Hub::new(of_host, [Mutation::None; 2]);
    let mut dead = hub.plugins.remove(0);
    dead.split().0.try_send(&MsgDescHot::data(1), &BYTES).unwrap();
    dead.endpoint().region().life().ends_at(u32::MAX, || {});
    drop(dead);
    let received = hub.links[0].split().1.try_recv().unwrap();
    let message: Message<_, _> = received.expect("it was sent");
    let host = Member::new(&mut hub.links[1], &Taken::default());
    (0..3).for_each(|_| assert!(host.allocate().is_some()));
    let living = Member::new(&mut hub.plugins[0], &Taken::default());
    let reading = thread::spawn(move || {
        let mut seen = [0; LARGE];
        message.copy_to(&mut seen);
        assert_eq!(seen, BYTES, "somebody wrote into a message that is being read");
    });
    let living = thread::spawn(move || u32::from(living.allocate().is_some()));
    let link = hub.links.remove(0);
    hub.host.reap(link).unwrap();
    reading.join().unwrap();
    let held = 3 + living.join().unwrap();
    assert_eq!(hub.host.settle(), 0);
    hub.assert_nothing_lost(held);
}

#[test]
fn what_the_host_has_taken_over_from_a_plugin_is_the_hosts_while_the_plugin_is_reaped() {
    check(|| sender_dies(Mutation::None));
}

#[test]
fn without_its_new_owner_a_message_is_freed_while_it_is_read() {
    let mutant = Mutation::LostStore(owner(), 0);
    killed("", move || sender_dies(mutant));
}
