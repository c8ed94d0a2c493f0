//! What a hub that grows promises: whoever finds a size class dry makes the file longer, everybody else meets the new
//! slots when they need them, and nothing of what they hold moves; where it cannot grow any more that is said.
//!
//! Seen to fail when: a hub is mapped no further than it is long; a member goes by its mapping and not by the file's
//! length; the memfd may not grow; the file is made as long as one extent instead of as long as its end; space at a path is
//! not allocated; a failure to allocate is taken for success; a fresh hub is not bounded by what this process allows, or by
//! what was asked for; a found one is not; the file's length is taken for the bound.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{assert_as_at_first, next_end, soon};
use crate::common::{Folder, Second, assert_hub_is_empty, command, eventually, part};
use rapace_shm::core::layout::HubOffsets;
use rapace_shm::{
    Error, Heard, HostLoan, HubConfig, HubError, HubHost, HubLoan, HubOptions, HubPeer, MAX_BYTES_VARIABLE, MsgDescHot,
    PeerId, Waits,
};
use rustix::fs::fstat;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Four slots of each class at first, sixteen times as many at most.
const CONFIG: HubConfig = HubConfig { max_extents: 16, ring_capacity: 16, ..super::CONFIG };

/// In bytes: only the largest class has such slots.
const LARGE: usize = 65_536;

/// What a plugin is told, as a message's number: to take so many large slots, to send them, to answer with the same bytes.
const HOLD: u64 = 1;
const SEND: u64 = 2;
const ECHO: u64 = 3;

fn end() -> usize {
    HubOffsets::calculate(&CONFIG).unwrap().end
}

fn bytes(salt: u64) -> Vec<u8> {
    super::bytes(LARGE, salt)
}

/// A large slot for the host, or a failure: where a hub does not grow it would wait for one.
#[track_caller]
fn large(host: &mut HubHost, id: PeerId) -> HostLoan {
    host.sender(id).unwrap().loan_deadline(LARGE, soon()).unwrap()
}

/// How many extents the class of the largest slots has.
fn extents(host: &HubHost) -> u32 {
    host.slot_status().classes[4].extents
}

/// Does as it is told until the host closes.
fn obey(mut plugin: HubPeer) {
    let mut held: Vec<HubLoan> = Vec::new();
    let (tx, rx) = plugin.split();
    for message in rx.iter() {
        let message = message.unwrap();
        match message.descriptor().msg_id {
            HOLD => {
                for number in 0..u64::from(message.payload()[0]) {
                    let mut loan = tx.loan_deadline(LARGE, soon()).unwrap();
                    loan.copy_from_slice(&bytes(number));
                    held.push(loan);
                }
                tx.send(&MsgDescHot::data(HOLD), b"held").unwrap();
            }
            SEND => {
                held.drain(..).for_each(|loan| tx.send_loan(&MsgDescHot::data(SEND), loan).unwrap());
            }
            _ => tx.send(message.descriptor(), message.payload()).unwrap(),
        }
    }
}

#[test]
fn member() {
    let Some(argument) = part("growth::member") else { return };
    obey(match argument.split_once(' ') {
        None if argument.is_empty() => HubPeer::inherited().unwrap(),
        None => HubPeer::join(argument).unwrap(),
        Some((id, path)) => HubPeer::open_at(path, PeerId(id.parse().unwrap())).unwrap(),
    });
}

/// How plugins come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Spawned,
    Joined,
    Opened,
    /// A hub at a path whose plugins nevertheless sleep on doorbells.
    JoinedAtPath,
}

/// A host, and two plugins in processes of their own.
fn meet(way: Way, folder: &Folder, options: HubOptions) -> (HubHost, Vec<(PeerId, Second)>) {
    let mut host = match way {
        Way::Spawned | Way::Joined => options.create(CONFIG).unwrap(),
        Way::Opened => options.create_at(folder.join("hub"), CONFIG).unwrap(),
        Way::JoinedAtPath => options.doorbells(true).create_at(folder.join("hub"), CONFIG).unwrap(),
    };
    if matches!(way, Way::Joined | Way::JoinedAtPath) {
        host.bind(folder.join("socket"), Waits::Together).unwrap();
    }
    let mut plugin = || match way {
        Way::Spawned => Second::plugin(&mut host, Waits::Together, "growth::member", ""),
        Way::Joined | Way::JoinedAtPath => {
            let child = Second::start("growth::member", folder.join("socket"));
            let (id, Heard::Joined) = host.recv_any_deadline(soon()).unwrap() else { panic!("something else") };
            (id, child)
        }
        Way::Opened => {
            let id = host.add_peer(Waits::Together).unwrap();
            (id, Second::start("growth::member", format!("{} {}", id.0, folder.join("hub").display())))
        }
    };
    let plugins = vec![plugin(), plugin()];
    (host, plugins)
}

/// The next message, whatever joins before it.
#[track_caller]
fn next(host: &mut HubHost) -> (PeerId, rapace_shm::HostMessage) {
    loop {
        match host.recv_any_deadline(soon()).unwrap() {
            (_, Heard::Joined) => {}
            (id, Heard::Message(message)) => return (id, message),
            (id, other) => panic!("{id:?}: {other:?}"),
        }
    }
}

#[track_caller]
fn hold(host: &mut HubHost, id: PeerId, count: u8) {
    host.send_to(id, &MsgDescHot::data(HOLD), &[count]).unwrap();
}

fn part_well(mut host: HubHost, plugins: Vec<(PeerId, Second)>) {
    for (id, child) in plugins {
        host.dismiss(id).unwrap();
        child.assert_ends_well();
    }
    assert_as_at_first(&mut host);
}

#[test]
fn one_grows_the_hub_and_the_others_meet_what_is_new_wherever_they_came_from() {
    let folder = Folder::new();
    for way in [Way::Spawned, Way::Joined, Way::Opened, Way::JoinedAtPath] {
        let (mut host, plugins) = meet(way, &folder, HubOptions::new());
        let (one, two) = (plugins[0].0, plugins[1].0);
        let mut loan = large(&mut host, one);
        loan.copy_from_slice(&bytes(9));
        let address = loan.as_ptr();
        // Three of the first extent, three of the second.
        hold(&mut host, one, 6);
        assert_eq!(next(&mut host).1.payload(), b"held");
        assert_eq!(extents(&host), 2, "{way:?}");
        host.send_to(one, &MsgDescHot::data(SEND), b"").unwrap();
        let messages: Vec<_> = (0..6).map(|_| next(&mut host).1).collect();
        for (message, number) in messages.iter().zip(0..) {
            assert_eq!(message.payload(), bytes(number), "{way:?}");
        }
        // The last of the second extent; the answer is in a third, which the other plugin adds.
        host.send_to(two, &MsgDescHot::data(ECHO), &bytes(77)).unwrap();
        let (from, answer) = next(&mut host);
        assert_eq!((from, answer.payload()), (two, &bytes(77)[..]), "{way:?}");
        assert_eq!(extents(&host), 3);
        assert_eq!((loan.as_ptr(), &loan[..]), (address, &bytes(9)[..]), "it was moved: {way:?}");
        drop((loan, messages, answer));
        part_well(host, plugins);
    }
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

#[test]
fn members_that_grow_at_the_same_moment_add_no_more_than_they_need() {
    let folder = Folder::new();
    for way in [Way::Spawned, Way::Opened] {
        let (mut host, plugins) = meet(way, &folder, HubOptions::new());
        for (id, _) in &plugins {
            hold(&mut host, *id, 12);
        }
        let loans: Vec<_> = (0..12).map(|_| large(&mut host, plugins[0].0)).collect();
        plugins.iter().for_each(|_| assert_eq!(next(&mut host).1.payload(), b"held"));
        assert_eq!(extents(&host), 9, "36 slots are in use, and an extent has 4: {way:?}");
        drop(loans);
        for (id, _) in &plugins {
            host.send_to(*id, &MsgDescHot::data(SEND), b"").unwrap();
        }
        (0..24).for_each(|_| assert_eq!(next(&mut host).1.len(), LARGE));
        part_well(host, plugins);
    }
}

#[test]
fn a_killed_grower_leaks_no_slot_of_what_it_added() {
    let folder = Folder::new();
    for way in [Way::Spawned, Way::Opened] {
        let (mut host, mut plugins) = meet(way, &folder, HubOptions::new());
        let (grower, mut child) = plugins.remove(0);
        hold(&mut host, grower, 11);
        assert_eq!(next(&mut host).1.payload(), b"held");
        child.kill();
        assert!(matches!(next_end(&mut host), (id, Error::PeerDied) if id == grower));
        eventually("its slots are back", || {
            host.tidy();
            host.peer_count() == 1
        });
        assert_eq!(host.slot_status().classes[4].total, 12);
        assert_hub_is_empty(&host);
        // They are there for the others.
        hold(&mut host, plugins[0].0, 12);
        assert_eq!(next(&mut host).1.payload(), b"held");
        assert_eq!(extents(&host), 3, "{way:?}");
        part_well(host, plugins);
    }
}

#[test]
fn where_a_hub_may_not_grow_further_senders_wait_or_are_told() {
    let extent = CONFIG.classes[4].extent_size().unwrap();
    let mut host = HubOptions::new().max_bytes(end() + extent).create(CONFIG).unwrap();
    let plugin = host.add_local(Waits::Together).unwrap();
    let mut loans: Vec<_> = (0..8).map(|_| large(&mut host, plugin.id())).collect();
    let (mut tx, _rx) = plugin.into_split();
    assert!(matches!(tx.try_loan(LARGE), Err(Error::Full)));
    assert!(matches!(tx.loan_deadline(LARGE, Instant::now() + Duration::from_millis(5)), Err(Error::Timeout)));
    loans.pop();
    drop(tx.try_loan(LARGE).unwrap());
    let _last = large(&mut host, PeerId(1));
    // Who waits hears that there may be more.
    let waiting = std::thread::spawn(move || tx.loan_deadline(LARGE, soon()).map(drop));
    std::thread::sleep(Duration::from_millis(5));
    host.set_max_bytes(end() + 2 * extent).unwrap();
    waiting.join().unwrap().unwrap();
    assert_eq!(extents(&host), 3);
}

#[test]
fn bounds_that_cannot_be_are_refused() {
    let fixed = HubConfig { max_extents: 1, ..CONFIG };
    let refused = HubOptions::new().max_bytes(1 << 20).create(fixed).map(drop);
    assert!(matches!(refused, Err(Error::Hub(HubError::NotGrowable))));
    assert!(matches!(HubHost::create(fixed).unwrap().set_max_bytes(1), Err(Error::Hub(HubError::NotGrowable))));
    let size = (512 << 20) + 1;
    let refused = HubOptions::new().max_bytes(size).create(CONFIG).map(drop);
    assert!(matches!(refused, Err(Error::LimitExceeded { size: seen, .. }) if seen == size));
    let host = HubHost::create(CONFIG).unwrap();
    assert!(matches!(host.set_max_bytes(size), Err(Error::LimitExceeded { .. })));
}

#[test]
fn two_gigabytes_of_addresses_are_no_two_gigabytes() {
    let folder = Folder::new();
    let config = HubConfig { max_extents: 16, ..HubConfig::default() };
    let host = HubHost::create(config).unwrap();
    assert_eq!(fstat(host.memfd().unwrap().as_fd()).unwrap().st_size, 115_380_416);
    // Nobody has to allow more than the usual to come in.
    let mut host = HubOptions::new().sparse(true).create_at(folder.join("hub"), config).unwrap();
    let id = host.add_peer(Waits::Together).unwrap();
    assert_eq!(HubPeer::open_at(folder.join("hub"), id).unwrap().config(), config);
}

/// A process that plays its part, and to the end.
#[track_caller]
fn plays_well(command: &mut Command) {
    let ended = command.stdout(Stdio::piped()).output().unwrap();
    let [said, why] = [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{why}");
}

/// Comes to nothing in a process that allows less than the hub may become.
#[test]
fn frugal_member() {
    let Some(argument) = part("growth::frugal_member") else { return };
    let (bound, path) = argument.split_once(' ').unwrap();
    let refused = HubPeer::open_at(path, PeerId(1)).map(drop).unwrap_err();
    let bound = bound.parse().unwrap();
    assert!(matches!(refused, Error::LimitExceeded { size, .. } if size == bound), "{refused}");
}

#[test]
fn a_member_that_allows_less_than_the_hub_may_become_does_not_attach() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let bound = end() + 2 * CONFIG.classes[4].extent_size().unwrap();
    let mut host = HubOptions::new().max_bytes(bound).create_at(&path, CONFIG).unwrap();
    let id = host.add_peer(Waits::Together).unwrap();
    assert_eq!(id, PeerId(1));
    let plays_within = |limit: usize, mut command: Command| {
        plays_well(command.env(MAX_BYTES_VARIABLE, limit.to_string()));
    };
    plays_within(bound - 1, command("growth::frugal_member", format!("{bound} {}", path.display())));
    // Places of smaller slots, which nobody has added, make the file longer than what is in it.
    drop((0..12).map(|_| large(&mut host, id)).collect::<Vec<_>>());
    assert!(std::fs::metadata(&path).unwrap().len() > bound as u64);
    plays_within(bound, command("growth::content_member", path));
}

#[test]
fn content_member() {
    let Some(path) = part("growth::content_member") else { return };
    drop(HubPeer::open_at(path, PeerId(1)).unwrap());
}

/// In a process whose files may not become as long as the second extent of the largest class needs: for it, the file system
/// is full there.
#[test]
fn host_on_a_full_file_system() {
    let Some(path) = part("growth::host_on_a_full_file_system") else { return };
    let usual = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(end() as u64 + 16_384), ..usual }).unwrap();
    for at_a_path in [true, false] {
        let mut host = if at_a_path { HubHost::create_at(&path, CONFIG) } else { HubHost::create(CONFIG) }.unwrap();
        let plugin = host.add_local(Waits::Together).unwrap();
        let (mut tx, rx) = plugin.into_split();
        let mut loans: Vec<_> = (0..4).map(|_| tx.loan(LARGE).unwrap()).collect();
        loans.iter_mut().for_each(|loan| loan.fill(5));
        assert!(matches!(tx.try_loan(LARGE), Err(Error::Full)));
        assert!(matches!(tx.loan_deadline(LARGE, Instant::now() + Duration::from_millis(5)), Err(Error::Timeout)));
        // There is still room for more of the small ones.
        let small: Vec<_> = (0..8).map(|_| tx.try_loan(64).unwrap()).collect();
        assert_eq!((host.slot_status().classes[0].extents, extents(&host)), (2, 1));
        setrlimit(Resource::Fsize, usual).unwrap();
        let more = tx.try_loan(LARGE).unwrap();
        assert_eq!(extents(&host), 2);
        assert!(loans.iter().all(|loan| loan.iter().all(|byte| *byte == 5)));
        setrlimit(Resource::Fsize, Rlimit { current: Some(end() as u64 + 16_384), ..usual }).unwrap();
        drop((loans, small, more, tx, rx));
        assert_hub_is_empty(&host);
    }
}

#[test]
fn a_full_file_system_is_no_slot_and_not_the_end_of_a_process() {
    let folder = Folder::new();
    let host = command("growth::host_on_a_full_file_system", folder.join("hub"));
    // Otherwise the signal that goes with that limit ends the process.
    let mut patient = Command::new("sh");
    patient.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(host.get_program()).args(host.get_args());
    patient.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    plays_well(&mut patient);
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

#[test]
fn what_a_hub_at_a_path_grows_by_is_really_allocated() {
    let folder = Folder::new();
    let allocated = || {
        use std::os::unix::fs::MetadataExt;
        let seen = std::fs::metadata(folder.join("hub")).unwrap();
        (seen.len(), seen.blocks() * 512)
    };
    let mut host = HubHost::create_at(folder.join("hub"), CONFIG).unwrap();
    let (_, before) = allocated();
    let plugin = host.add_local(Waits::Together).unwrap();
    let loans: Vec<_> = (0..5).map(|_| large(&mut host, plugin.id())).collect();
    let (len, after) = allocated();
    let extent = CONFIG.classes[4].extent_size().unwrap();
    assert!(after >= before + extent as u64 - 4096, "{before} before, {after} after");
    // Those of the other classes have their places before it.
    assert_eq!(len, 2 * end() as u64 - HubOffsets::calculate(&CONFIG).unwrap().extents[0] as u64);
    drop(loans);
}

#[test]
fn peers_that_know_nothing_of_growth_refuse_it() {
    let folder = Folder::new();
    let mut host = HubHost::create_at(folder.join("hub"), CONFIG).unwrap();
    let id = host.add_peer(Waits::Together).unwrap();
    let refused = rapace_transport_shm::HubPeer::open(folder.join("hub"), id.0).map(drop).unwrap_err();
    assert!(format!("{refused:?}").contains("ersion"), "{refused:?}");
    // Which left nothing behind.
    drop(HubPeer::open_at(folder.join("hub"), id).unwrap());
}
