//! Hubs that the published crate made.
//!
//! Seen to fail when: a peer that was never added must have its number; a number that was refused counts as a peer; a
//! removed peer counts.

use std::fs::File;

use rapace_core::MsgDescHot;
use rapace_shm::inspect::{HubReport, Report};
use rapace_transport_shm::{HubConfig, HubHost, HubPeer, close_peer_fd};

fn report(host: &HubHost) -> HubReport {
    match Report::read(&File::open(host.path()).unwrap()).unwrap() {
        Report::Hub(report) => *report,
        Report::Session(report) => panic!("{report}"),
    }
}

#[track_caller]
fn assert_sound(host: &HubHost, when: &str) {
    let report = report(host);
    assert!(report.findings.is_empty(), "{when}: {report}");
}

/// What the published transport does to send a payload in a slot.
fn send(peer: &HubPeer, head: &mut u64) {
    let (class, index, generation) = peer.allocator().alloc(5000, u32::from(peer.peer_id())).unwrap();
    peer.allocator().mark_in_flight(class, index, generation).unwrap();
    let payload_slot = u32::from(class) << 29 | index;
    let message = MsgDescHot { payload_slot, payload_generation: generation, payload_len: 5000, ..MsgDescHot::new() };
    peer.send_ring().enqueue(head, &message).unwrap();
}

// Its doorbells ask for a runtime.
#[tokio::test]
async fn a_hub_of_the_published_crate_has_no_findings_at_any_age() {
    let folder = tempfile::tempdir().unwrap();
    let host = HubHost::create(folder.path().join("hub"), HubConfig::default()).unwrap();
    assert_sound(&host, "fresh");
    let ids: Vec<u16> = (0..3)
        .map(|_| host.add_peer().unwrap())
        .map(|peer| {
            close_peer_fd(peer.peer_doorbell_fd);
            peer.peer_id
        })
        .collect();
    assert_sound(&host, "peers added");
    let peers: Vec<HubPeer> = ids.iter().map(|id| HubPeer::open(host.path(), *id).unwrap()).collect();
    peers.iter().for_each(HubPeer::register);
    assert_sound(&host, "registered");
    peers[1].update_heartbeat();
    send(&peers[1], &mut 0);
    assert_sound(&host, "sent");
    let report = report(&host);
    assert!(report.has_old_host());
    let text = report.to_string();
    for fact in [
        "\nplugin 1 owns           1 of class 1\n",
        "\nplugin 1 heartbeat      number 1, ",
        "\nplugins                 3, room for 29\n",
    ] {
        assert!(text.contains(fact), "no {fact:?} in {text}");
    }
    host.remove_peer(ids[2]).unwrap();
    assert_sound(&host, "removed");
}
