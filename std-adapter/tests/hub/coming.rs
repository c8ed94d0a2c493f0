//! How plugins come in, that messages go both ways, and that whoever has no right to come in is told why.

use std::time::Duration;

use rapace_shm::{
    Error, HandshakeError, Heard, HubConfig, HubError, HubHost, HubOptions, HubPeer, MsgDescHot, PeerId, ShmListener,
    ShmSession, ShmSessionConfig, Spin, Waits,
};
use rustix::event::{PollFd, PollFlags, poll};

use super::common::{self, Folder, Second};
use super::{CONFIG, LENGTHS, assert_as_at_first, bytes, exchange, next_end, next_message, opener, soon};

#[test]
fn messages_of_every_class_go_both_ways_between_a_host_and_its_children() {
    let mut host = HubHost::create(CONFIG).unwrap();
    let (ids, children): (Vec<_>, Vec<_>) =
        (0..3).map(|_| Second::plugin(&mut host, Waits::Together, "spawned_plugin", "")).unzip();
    exchange(&mut host, &ids);
    for id in ids {
        host.dismiss(id).unwrap();
        assert!(
            matches!(host.send_to(id, &MsgDescHot::data(1), b""), Err(Error::NotServed { id: seen }) if seen == id)
        );
    }
    children.into_iter().for_each(Second::assert_ends_well);
    assert_as_at_first(&mut host);
}

#[test]
fn strangers_join_by_a_socket_and_are_heard_of_before_they_are_heard() {
    let folder = Folder::new();
    let mut host = HubHost::create(CONFIG).unwrap();
    host.bind(folder.join("socket"), Waits::Together).unwrap();
    let children: Vec<_> = (0..2).map(|_| Second::start("joining_plugin", folder.join("socket"))).collect();
    let (mut joined, mut said) = (Vec::new(), Vec::new());
    while said.len() < 2 {
        match host.recv_any_deadline(soon()).unwrap() {
            (id, Heard::Joined) => joined.push(id),
            (id, Heard::Message(message)) => {
                assert!(joined.contains(&id), "heard before it was heard of");
                assert_eq!(message.payload(), id.0.to_le_bytes());
                said.push(id);
            }
            (id, other) => panic!("{id:?}: {other:?}"),
        }
    }
    said.sort_unstable_by_key(|id| id.0);
    exchange(&mut host, &said);
    said.into_iter().for_each(|id| host.dismiss(id).unwrap());
    children.into_iter().for_each(Second::assert_ends_well);
    assert_as_at_first(&mut host);
    drop(host);
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

#[test]
fn whoever_knows_path_and_number_opens_the_hub() {
    let folder = Folder::new();
    let mut host = HubHost::create_at(folder.join("hub"), CONFIG).unwrap();
    let ids: Vec<_> = (0..2).map(|_| host.add_peer(Waits::Together).unwrap()).collect();
    let children: Vec<_> = ids.iter().map(|id| opener(&folder, *id)).collect();
    exchange(&mut host, &ids);
    ids.into_iter().for_each(|id| host.dismiss(id).unwrap());
    children.into_iter().for_each(Second::assert_ends_well);
    assert_as_at_first(&mut host);
    drop(host);
    assert!(folder.names().is_empty());
}

#[test]
fn a_hub_at_a_path_can_have_doorbells_and_then_spawns_and_is_joined() {
    let folder = Folder::new();
    let options = HubOptions::new().doorbells(true).sparse(true);
    let mut host = options.create_at(folder.join("hub"), CONFIG).unwrap();
    host.bind(folder.join("socket"), Waits::Together).unwrap();
    let (spawned, child) = Second::plugin(&mut host, Waits::Together, "spawned_plugin", "");
    let stranger = Second::start("joining_plugin", folder.join("socket"));
    let (joined, 7, _) = next_message(&mut host) else { panic!("another message") };
    exchange(&mut host, &[spawned, joined]);
    assert!(matches!(host.add_peer(Waits::Together), Err(Error::NeedsDoorbell)));
    host.dismiss(spawned).unwrap();
    host.dismiss(joined).unwrap();
    child.assert_ends_well();
    stranger.assert_ends_well();
    assert_as_at_first(&mut host);
}

#[test]
fn a_plugin_that_waits_alone_is_served_by_a_thread_of_its_own() {
    let folder = Folder::new();
    for at_a_path in [false, true] {
        let mut host = match at_a_path {
            false => HubHost::create(CONFIG).unwrap(),
            true => HubHost::create_at(folder.join("hub"), CONFIG).unwrap(),
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (id, child) = if at_a_path {
                    let id = host.add_peer(Waits::Alone).unwrap();
                    (id, opener(&folder, id))
                } else {
                    Second::plugin(&mut host, Waits::Alone, "spawned_plugin", "")
                };
                let (mut tx, mut rx) = host.take(id).unwrap().into_split();
                assert!(matches!(host.take(id), Err(Error::NotServed { .. })), "once");
                std::thread::spawn(move || {
                    for (number, len) in (0..).zip(LENGTHS) {
                        tx.send(&MsgDescHot::data(number), &bytes(len, number)).unwrap();
                        assert_eq!(rx.recv_deadline(soon()).unwrap().payload(), bytes(len, number));
                    }
                    drop((tx, rx));
                    child.assert_ends_well();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_as_at_first(&mut host);
    }
}

#[test]
fn loans_of_the_host_go_to_whichever_plugin_and_senders_to_whichever_thread() {
    let mut host = HubHost::create(CONFIG).unwrap();
    let (mut one, mut two) = (host.add_local(Waits::Together).unwrap(), host.add_local(Waits::Together).unwrap());
    let mut loan = host.loan_for(one.id(), 100).unwrap();
    loan.fill(9);
    host.send_loan_to(two.id(), &MsgDescHot::data(1), loan).unwrap();
    assert_eq!(two.split().1.recv().unwrap().payload(), [9; 100]);
    let loan = host.loan_for(one.id(), 100).unwrap();
    let unsent = host.send_loan_to(PeerId(4), &MsgDescHot::data(1), loan).unwrap_err();
    assert!(matches!(unsent.error, Error::NotServed { id: PeerId(4) }));
    let mut sender = host.take_sender(one.id()).unwrap();
    assert!(matches!(host.take_sender(one.id()), Err(Error::NotServed { .. })));
    let thread = std::thread::spawn(move || sender.send_loan(&MsgDescHot::data(2), unsent.loan.unwrap()).unwrap());
    assert_eq!(one.split().1.recv().unwrap().len(), 100);
    thread.join().unwrap();
    drop((one, two));
    assert!(matches!(next_end(&mut host), (_, Error::Closed)));
    assert!(matches!(next_end(&mut host), (_, Error::Closed)));
    assert!(matches!(host.recv_any(), Err(Error::NoPlugins)));
    assert_as_at_first(&mut host);
}

#[test]
fn an_event_loop_hears_of_messages_joiners_and_deaths_by_one_descriptor() {
    let folder = Folder::new();
    let mut host = HubOptions::new().spin(Spin::none()).create(CONFIG).unwrap();
    host.bind(folder.join("socket"), Waits::Together).unwrap();
    let source = host.event_source_any().unwrap();
    let hear = |host: &mut HubHost| loop {
        if let rapace_shm::core::wake::Step::Ready(heard) = host.poll_recv_any().unwrap() {
            return heard;
        }
        poll(&mut [PollFd::new(&source, PollFlags::IN)], None).unwrap();
        host.drain_any();
    };
    let mut child = Second::start("joining_plugin", folder.join("socket"));
    let (id, Heard::Joined) = hear(&mut host) else { panic!("not heard of") };
    assert!(matches!(hear(&mut host), (_, Heard::Message(_))));
    child.kill();
    assert!(matches!(hear(&mut host), (seen, Heard::Ended(Error::PeerDied)) if seen == id));
    assert_as_at_first(&mut host);
}

#[test]
fn nothing_to_hear_is_said_by_each_call_in_its_way() {
    let mut host = HubHost::create(CONFIG).unwrap();
    assert!(matches!(host.recv_any(), Err(Error::NoPlugins)));
    assert!(matches!(host.try_recv_any(), Err(Error::Empty)));
    let _plugin = host.add_local(Waits::Together).unwrap();
    assert!(matches!(host.recv_any(), Ok((PeerId(1), Heard::Joined))));
    assert!(matches!(host.try_recv_any(), Err(Error::Empty)));
    assert!(matches!(host.recv_any_timeout(Duration::from_millis(5)), Err(Error::Timeout)));
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let folder = Folder::new();
    let mut host = HubHost::create_at(folder.join("hub"), CONFIG).unwrap();
    let id = host.add_peer(Waits::Together).unwrap();
    let open = |id| HubPeer::open_at(folder.join("hub"), id).map(drop).unwrap_err();
    assert!(matches!(open(PeerId(2)), Error::Hub(HubError::NotReserved { id: PeerId(2) })));
    assert!(matches!(open(PeerId(0)), Error::Hub(HubError::NoSuchPeer { id: PeerId(0), last: 4 })));
    let plugin = HubPeer::open_at(folder.join("hub"), id).unwrap();
    assert!(matches!(open(id), Error::Hub(HubError::Taken { .. })));
    for _ in 0..3 {
        host.add_peer(Waits::Together).unwrap();
    }
    assert!(matches!(host.add_peer(Waits::Together), Err(Error::Hub(HubError::Full { plugins: 4 }))));
    let spawned = host.spawn(&mut common::command("spawned_plugin", ""), Waits::Together);
    assert!(matches!(spawned, Err(Error::Hub(HubError::Full { .. }) | Error::NoDoorbell)));
    assert!(matches!(host.bind(folder.join("socket"), Waits::Together), Err(Error::NoDoorbell)));
    assert!(matches!(HubHost::create_at(folder.join("hub"), CONFIG), Err(Error::Path(_))), "a live hub is there");
    assert!(matches!(ShmSession::open_at(folder.join("hub")), Err(Error::Incompatible(_))), "it is no session");
    drop(plugin);
    assert!(matches!(HubPeer::inherited(), Err(Error::NotInherited { .. })));
}

/// What a listener and whoever knocks there say of each other.
fn knock<T: Send>(
    listen: impl FnOnce() -> Error,
    connect: impl FnOnce() -> Result<T, Error> + Send,
) -> (HandshakeError, HandshakeError) {
    let of = |error| if let Error::Handshake(error) = error { error } else { panic!("{error}") };
    std::thread::scope(|scope| {
        let client = scope.spawn(|| connect().map(drop).unwrap_err());
        let listener = listen();
        (of(listener), of(client.join().unwrap()))
    })
}

#[test]
fn hubs_and_sessions_tell_each_other_apart() {
    let folder = Folder::new();
    let path = folder.join("socket");
    let mut host = HubHost::create(CONFIG).unwrap();
    host.bind(&path, Waits::Together).unwrap();
    let (host_says, client_says) = knock(|| host.recv_any_deadline(soon()).unwrap_err(), || ShmSession::connect(&path));
    assert_eq!(host_says, HandshakeError::Capabilities { seen: 1, required: 3 });
    assert_eq!(client_says, HandshakeError::Refused { reason: 3 });
    drop(host);
    let mut listener = ShmListener::bind(&path, ShmSessionConfig::default()).unwrap();
    let (_, client_says) = knock(|| listener.accept_deadline(soon()).unwrap_err(), || HubPeer::join(&path));
    assert_eq!(client_says, HandshakeError::Capabilities { seen: 1, required: 3 });
}

#[test]
fn a_hub_that_is_full_refuses_who_joins_until_somebody_leaves() {
    let folder = Folder::new();
    let path = folder.join("socket");
    let mut host = HubHost::create(HubConfig { max_peers: 2, ..CONFIG }).unwrap();
    host.bind(&path, Waits::Together).unwrap();
    let plugin = host.add_local(Waits::Together).unwrap();
    assert!(matches!(host.recv_any(), Ok((_, Heard::Joined))));
    let refused = std::thread::scope(|scope| {
        let client = scope.spawn(|| HubPeer::join(&path).map(drop).unwrap_err());
        assert!(matches!(host.recv_any_deadline(soon()), Err(Error::Hub(HubError::Full { plugins: 1 }))));
        client.join().unwrap()
    });
    assert!(matches!(refused, Error::Handshake(HandshakeError::Refused { reason: 6 })), "{refused}");
    drop(plugin);
    assert!(matches!(next_end(&mut host), (PeerId(1), Error::Closed)));
    let joined = std::thread::scope(|scope| {
        let client = scope.spawn(|| HubPeer::join(&path).unwrap());
        assert!(matches!(host.recv_any_deadline(soon()), Ok((PeerId(1), Heard::Joined))));
        client.join().unwrap()
    });
    drop(joined);
    assert!(matches!(next_end(&mut host), (PeerId(1), Error::Closed)));
    assert_as_at_first(&mut host);
}
