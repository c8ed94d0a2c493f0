//! Many sessions and a listener in one thread, with `epoll`: a server that echoes to each of its clients. It starts three
//! clients in threads of its own, and ends when they have ended.
//!
//! ```sh
//! cargo run --release -p rapace-shm --example epoll
//! ```
//!
//! The rule that makes it work is in `Client::serve`: receive until nothing is there, arm, and only then go back to
//! waiting; after a wait, drain.

use std::collections::HashMap;
use std::error::Error;
use std::os::fd::AsFd;
use std::path::Path;

use rapace_shm::{EventSource, MsgDescHot, Receiver, Sender, ShmListener, ShmSession, ShmSessionConfig};
use rustix::event::epoll;

/// The listener's number in the epoll set.
const LISTENER: u64 = 0;
const CLIENTS: u64 = 3;

struct Client {
    tx: Sender,
    rx: Receiver,
    source: EventSource,
}

impl Client {
    fn new(session: ShmSession) -> Result<Self, rapace_shm::Error> {
        let (tx, rx) = session.into_split();
        Ok(Self { source: rx.event_source()?, tx, rx })
    }

    /// Answers everything that is there; false when the client has left or died.
    fn serve(&mut self) -> bool {
        self.rx.drain();
        loop {
            match self.rx.try_recv() {
                Ok(message) => {
                    if self.tx.send(message.descriptor(), message.payload()).is_err() {
                        return false;
                    }
                }
                Err(rapace_shm::Error::Empty) => match self.rx.arm() {
                    // From here on the source will say so when something comes.
                    Ok(true) => return true,
                    // Something has come in between.
                    Ok(false) => {}
                    Err(_) => return false,
                },
                Err(_) => return false,
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("rapace-shm-epoll-{}", std::process::id()));
    let listener = ShmListener::bind(&path, ShmSessionConfig::default())?;
    std::thread::scope(|scope| {
        for number in 1..=CLIENTS {
            let path = &path;
            scope.spawn(move || client(path, number).expect("client"));
        }
        server(listener)
    })
}

fn server(mut listener: ShmListener) -> Result<(), Box<dyn Error>> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |source: &dyn AsFd, number: u64| {
        epoll::add(&set, source.as_fd(), epoll::EventData::new_u64(number), epoll::EventFlags::IN)
    };
    watch(&listener, LISTENER)?;
    let (mut clients, mut next, mut left) = (HashMap::new(), LISTENER + 1, 0);
    let mut events: Vec<epoll::Event> = Vec::with_capacity(16);
    while left < CLIENTS {
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        for number in events.iter().map(|event| event.data.u64()).collect::<Vec<_>>() {
            if number == LISTENER {
                while let Some(session) = listener.try_accept()? {
                    let mut client = Client::new(session)?;
                    watch(&client.source, next)?;
                    // What it said before it was watched.
                    if client.serve() {
                        clients.insert(next, client);
                    } else {
                        left += 1;
                    }
                    next += 1;
                }
            } else if clients.get_mut(&number).is_some_and(|client| !client.serve()) {
                clients.remove(&number);
                left += 1;
            }
        }
    }
    println!("all {left} clients have been served");
    Ok(())
}

fn client(path: &Path, number: u64) -> Result<(), rapace_shm::Error> {
    let mut session = ShmSession::connect(path)?;
    let (tx, rx) = session.split();
    for question in 0..1000 {
        tx.send(&MsgDescHot::data(question), format!("question {question} of client {number}").as_bytes())?;
        assert_eq!(rx.recv()?.descriptor().msg_id, question);
    }
    Ok(())
}
