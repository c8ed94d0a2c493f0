//! Two processes that know nothing of each other but a path. In one terminal, and then in another:
//!
//! ```sh
//! cargo run --release -p rapace-shm --example strangers -- serve /tmp/strangers
//! cargo run --release -p rapace-shm --example strangers -- ask /tmp/strangers "what is this?"
//! ```
//!
//! The server serves one client after the other, each over a session of its own, and takes a client's death as the end of
//! that client.

use std::error::Error;

use rapace_shm::{MsgDescHot, ShmListener, ShmSession, ShmSessionConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", path] => serve(path),
        ["ask", path, question] => ask(path, question),
        _ => Err("say `serve PATH` or `ask PATH QUESTION`".into()),
    }
}

fn serve(path: &str) -> Result<(), Box<dyn Error>> {
    let mut listener = ShmListener::bind(path, ShmSessionConfig::default())?;
    println!("waiting at {path}");
    loop {
        match listener.accept() {
            Ok(session) => {
                std::thread::spawn(move || answer(session).unwrap_or_else(|error| eprintln!("client: {error}")));
            }
            // A client that was not what it should be. The next one may be.
            Err(error @ rapace_shm::Error::Handshake(_)) => eprintln!("refused: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(session: ShmSession) -> Result<(), rapace_shm::Error> {
    let (mut tx, mut rx) = session.into_split();
    for question in &mut rx {
        let question = question?;
        tx.send(question.descriptor(), &question.payload().to_ascii_uppercase())?;
    }
    Ok(())
}

fn ask(path: &str, question: &str) -> Result<(), Box<dyn Error>> {
    let mut session = ShmSession::connect(path)?;
    let (tx, rx) = session.split();
    tx.send(&MsgDescHot::data(1), question.as_bytes())?;
    println!("{}", String::from_utf8_lossy(rx.recv()?.payload()));
    Ok(())
}
