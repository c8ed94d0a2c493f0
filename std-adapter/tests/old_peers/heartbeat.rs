//! A peer of the published crate takes three seconds without a heartbeat for death, and no heartbeat ever for life. So our
//! heart must beat as long as the endpoint lives, whatever that does, and must have beaten when it goes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapace_core::{Transport, TransportError};
use rapace_shm::{Error, MsgDescHot, ShmSession, ShmSessionConfig};

use crate::common::{Folder, Second, eventually, part};
use crate::old::{self, SILENCE, ShmTransport};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 16, slot_size: 64, slot_count: 4 };

const SILENT: Duration = Duration::from_nanos(SILENCE);

/// Longer than the silence that counts as death, by more than a heartbeat.
const PATIENCE: Duration = Duration::from_millis(4500);

/// The published crate looks every 100 ms, and the machine may be busy.
const SLACK: Duration = Duration::from_secs(1);

/// What our side does all the time, in its process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    /// It has created the session and sleeps since before there was anybody, and nobody ever wakes it.
    SleepsSinceBefore,
    /// It has found an old peer that waits, and sleeps too.
    Sleeps,
    /// It only looks, and never sleeps in a call of the session.
    Looks,
    /// It only sends, and never waits for anything.
    Sends,
}

/// Our side.
#[test]
fn our_side() {
    let Some(told) = part("heartbeat::our_side") else { return };
    let (doing, path) = told.split_once(' ').unwrap();
    let path = Path::new(path);
    let session = match doing {
        "SleepsSinceBefore" => ShmSession::create_at(path, CONFIG),
        _ => ShmSession::open_at(path),
    };
    let (mut tx, mut rx) = session.unwrap().into_split();
    match doing {
        "Sends" => loop {
            tx.try_send(&MsgDescHot::data(1), b"still here").unwrap();
            std::thread::sleep(Duration::from_millis(300));
        },
        "Looks" => loop {
            assert!(matches!(rx.try_recv(), Err(Error::Empty)));
            std::thread::sleep(Duration::from_micros(100));
        },
        _ => panic!("{:?}", rx.recv()),
    }
}

/// Our side in a process of its own, and the published crate here, which has just begun to wait.
fn beside(folder: &Folder, doing: Doing) -> (Second, Arc<old::ShmSession>) {
    let path = folder.join("session");
    let start = || Second::start("heartbeat::our_side", format!("{doing:?} {}", path.display()));
    if doing == Doing::SleepsSinceBefore {
        let other = start();
        eventually("our session", || path.exists());
        std::thread::sleep(Duration::from_millis(100));
        return (other, old::open(&path));
    }
    let session = old::create(&path, CONFIG);
    session.update_heartbeat();
    (start(), session)
}

/// How often the threads of a process have gone to sleep by themselves.
fn sleeps(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let statuses: Vec<String> =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect();
    let lines = statuses.iter().flat_map(|status| status.lines());
    lines.filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok()).sum()
}

/// Receives what may come for as long as a live peer's silence is to be borne.
async fn bear(transport: &ShmTransport) {
    let patience = async {
        loop {
            transport.recv_frame().await.expect("the peer lives");
        }
    };
    tokio::time::timeout(PATIENCE, patience).await.expect_err("it never ends");
}

/// A receive beside an endpoint that has gone; how long it took to find out.
async fn until_it_ends(transport: &ShmTransport) -> Duration {
    let begin = Instant::now();
    loop {
        match transport.recv_frame().await {
            Ok(_) => {}
            Err(TransportError::Closed) => return begin.elapsed(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bears it while it lives, kills it, and sees that this is noticed.
fn live_and_die(doing: Doing) {
    let folder = Folder::new();
    let (mut other, session) = beside(&folder, doing);
    let transport = ShmTransport::new(session.clone());
    old::run(async {
        // The process has to start, and to open the session.
        tokio::time::timeout(Duration::from_millis(500), until_it_ends(&transport)).await.unwrap_err();
        let before = sleeps(other.id());
        let begin = Instant::now();
        bear(&transport).await;
        if matches!(doing, Doing::Sleeps | Doing::SleepsSinceBefore) {
            let (slept, seconds) = (sleeps(other.id()) - before, begin.elapsed().as_secs_f64());
            println!("{doing:?}: woke up {slept} times in {seconds:.1} s");
            assert!(slept as f64 <= 2.0 * seconds.ceil(), "woke up {slept} times in {seconds} s");
        }
        assert!(session.is_peer_alive(SILENCE));
        assert!((4..=8).contains(&session.peer_epoch()), "{} heartbeats", session.peer_epoch());
        other.kill();
        let took = until_it_ends(&transport).await;
        assert!(took < SILENT + SLACK, "{took:?} until it was noticed");
    });
}

/// One message, and it is gone: its heart must have beaten, although the second is not over in which another one's has.
fn leave() {
    let folder = Folder::new();
    let [long, short] = [folder.join("long"), folder.join("short")];
    let old = old::create(&long, CONFIG);
    old.update_heartbeat();
    let _stays = ShmSession::open_at(&long).unwrap();
    eventually("a heartbeat", || old.peer_epoch() > 0);
    let transport = ShmTransport::new(old::create(&short, CONFIG));
    old::run(async {
        let leaving = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut session = ShmSession::open_at(&short).unwrap();
            session.split().0.send(&MsgDescHot::data(1), b"goodbye").unwrap();
        };
        let (took, ()) = tokio::join!(until_it_ends(&transport), leaving);
        assert!(took < SILENT + SLACK, "{took:?} until it was noticed");
    });
}

#[test]
fn the_heart_beats_as_long_as_the_endpoint_lives_whatever_it_does_and_no_longer() {
    std::thread::scope(|scope| {
        for doing in [Doing::SleepsSinceBefore, Doing::Sleeps, Doing::Looks, Doing::Sends] {
            scope.spawn(move || live_and_die(doing));
        }
        scope.spawn(leave);
    });
}
