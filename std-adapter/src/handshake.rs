//! How two processes that do not know each other come to share a session, or a hub: three messages over a Unix socket.
//!
//! ```text
//!   client                                    listener
//!     | ---- hello: versions, capabilities ----> |   who is it? (SO_PEERCRED)  same version?
//!     | <--- welcome, with five descriptors ---- |   the sealed memfd, and four doorbells
//!     | ---- ready ----------------------------> |   the client has attached
//!     | <======== the life socket =============> |   nothing more is said
//! ```
//!
//! The socket keeps message boundaries (`SOCK_SEQPACKET`), so a message is whole or absent. Afterwards it is what tells
//! each of the other's death, so it is the life socket of the [wiring](crate::wiring): nothing else has to be passed. A
//! child that inherits its end of such a socket finds the welcome in it already, and only answers.
//!
//! A hub's host does the same. Its welcome also says which number the plugin has, and brings a sixth descriptor: the bell
//! of everybody who waits for a slot.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::HubError;
use rapace_shm_core::layout::PROTOCOL_VERSION;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::doorbell::Bell;
use crate::error::{Error, HandshakeError};
use crate::poll::poll_until;
use crate::wiring::{Bells, Wiring};

/// How each message begins.
const MAGIC: [u8; 8] = *b"RAPSHAKE";

/// Version of the handshake (not of the segment's bytes).
const VERSION: u32 = 1;

/// Capability: sleeps on doorbells, and rings them.
const DOORBELLS: u32 = 1;

/// Capability: is, or looks for, a hub.
const HUB: u32 = 2;

/// Descriptors that come with a welcome: the memfd, the listener's two bells, the client's two bells.
const DESCRIPTORS: usize = 5;

/// Descriptors that come with a hub's welcome: also the bell of those who wait for a slot.
const HUB_DESCRIPTORS: usize = 6;

/// Kind of message.
const HELLO: u32 = 1;
const WELCOME: u32 = 2;
const READY: u32 = 3;
const REFUSAL: u32 = 4;

/// A message: 32 bytes, native endian, as everything else that the two share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Letter {
    magic: [u8; 8],
    /// Version of the handshake.
    version: u32,
    /// Which message this is.
    kind: u32,
    /// Version of the segment's bytes that the sender speaks.
    layout: u32,
    /// What the sender can do, bit by bit.
    capabilities: u32,
    /// Why it was refused.
    reason: u32,
    /// In a hub's welcome: the plugin's number. Otherwise zero.
    peer: u32,
}

impl Letter {
    const fn new(kind: u32) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            kind,
            layout: PROTOCOL_VERSION,
            capabilities: DOORBELLS,
            reason: 0,
            peer: 0,
        }
    }

    /// As a hub, or one that looks for a hub, says it.
    const fn of_hub(self) -> Self {
        Self { capabilities: DOORBELLS | HUB, ..self }
    }

    /// Whether the two can work together, and this is the message that is due.
    fn check(&self, expected: u32, required: u32) -> Result<(), HandshakeError> {
        if self.magic != MAGIC {
            return Err(HandshakeError::NotRapace { seen: self.magic });
        }
        if self.version != VERSION {
            return Err(HandshakeError::Version { seen: self.version, expected: VERSION });
        }
        if self.kind == REFUSAL {
            return Err(HandshakeError::Refused { reason: self.reason });
        }
        if self.kind != expected {
            return Err(HandshakeError::OutOfTurn { seen: self.kind, expected });
        }
        if self.layout >> 16 != PROTOCOL_VERSION >> 16 {
            return Err(HandshakeError::Layout { seen: self.layout, expected: PROTOCOL_VERSION });
        }
        if self.capabilities & required != required {
            return Err(HandshakeError::Capabilities { seen: self.capabilities, required });
        }
        Ok(())
    }
}

/// The bells of both sides, before the socket becomes the life socket.
#[derive(Debug)]
pub(crate) struct Offer {
    own: Bells,
    peer: Bells,
}

impl Offer {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { own: Bells::new()?, peer: Bells::new()? })
    }

    /// Sends the welcome. It never waits: the socket is empty.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, memfd: BorrowedFd<'_>) -> Result<(), Error> {
        let ([a, b], [c, d]) = (self.own.descriptors(), self.peer.descriptors());
        write(socket, Letter::new(WELCOME), &[memfd, a, b, c, d])
    }

    /// This side's wiring, once the socket is the life socket.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn wiring(self, life: OwnedFd) -> Result<Wiring, Error> {
        Wiring::new(self.own, self.peer, Some(life))
    }
}

/// What a hub gives a plugin, before the socket becomes the life socket.
#[derive(Debug)]
pub(crate) struct HubOffer {
    pub(crate) bells: Offer,
    /// The bell of everybody who waits for a slot.
    pub(crate) slots: Arc<Bell>,
    /// The plugin's number.
    pub(crate) id: PeerId,
}

impl HubOffer {
    /// The host's side, which waits for data at `data`.
    pub(crate) fn new(data: &Arc<Bell>, slots: &Arc<Bell>, id: PeerId) -> Result<Self, Error> {
        let bells = Offer { own: Bells::new()?.heard_at(data), peer: Bells::new()? };
        Ok(Self { bells, slots: Arc::clone(slots), id })
    }

    /// Sends the welcome. It never waits: the socket is empty.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, memfd: BorrowedFd<'_>) -> Result<(), Error> {
        let ([a, b], [c, d]) = (self.bells.own.descriptors(), self.bells.peer.descriptors());
        let letter = Letter { peer: self.id.0.into(), ..Letter::new(WELCOME) };
        write(socket, letter.of_hub(), &[memfd, a, b, c, d, self.slots.as_fd()])
    }

    /// The other side of it, for a plugin in this process.
    pub(crate) fn turned(&self) -> Self {
        let bells = Offer { own: self.bells.peer.clone(), peer: self.bells.own.clone() };
        Self { bells, slots: Arc::clone(&self.slots), id: self.id }
    }

    /// This side's wiring. There is no life socket between two ends in one process. `lives` are those of all plugins, for
    /// their host.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn wiring(self, life: Option<OwnedFd>, lives: Option<BorrowedFd<'_>>) -> Result<Wiring, Error> {
        Wiring::of_hub(self.bells.own, self.bells.peer, Some(self.slots), life, lives)
    }
}

/// Says hello.
pub(crate) fn hello(socket: BorrowedFd<'_>) -> Result<(), Error> {
    write(socket, Letter::new(HELLO), &[])
}

/// Says hello to a hub.
pub(crate) fn hello_hub(socket: BorrowedFd<'_>) -> Result<(), Error> {
    write(socket, Letter::new(HELLO).of_hub(), &[])
}

/// Takes a client's hello, if it is there.
pub(crate) fn take_hello(socket: BorrowedFd<'_>) -> Result<Option<()>, Error> {
    take(socket, HELLO, DOORBELLS)
}

/// Takes the hello of one that looks for a hub, if it is there.
pub(crate) fn take_hub_hello(socket: BorrowedFd<'_>) -> Result<Option<()>, Error> {
    take(socket, HELLO, DOORBELLS | HUB)
}

/// Takes a client's word that it has attached, if it is there.
pub(crate) fn take_ready(socket: BorrowedFd<'_>) -> Result<Option<()>, Error> {
    take(socket, READY, DOORBELLS)
}

/// Tells a client why it gets nothing; whether it hears that is its own affair.
pub(crate) fn refuse(socket: BorrowedFd<'_>, error: &Error) {
    let reason = match error {
        Error::Handshake(reason) => reason.code(),
        Error::Hub(HubError::Full { .. }) => HandshakeError::FULL,
        _ => HandshakeError::UNKNOWN,
    };
    let _ = write(socket, Letter { reason, ..Letter::new(REFUSAL) }, &[]);
}

/// Waits for the welcome: the memfd, and the bells.
pub(crate) fn take_welcome(socket: &OwnedFd, deadline: Instant) -> Result<(OwnedFd, Offer), Error> {
    let (_, [memfd, a, b, c, d]) = wait_for_welcome::<DESCRIPTORS>(socket, DOORBELLS, deadline)?;
    Ok((memfd, Offer { peer: Bells::received(a, b)?, own: Bells::received(c, d)? }))
}

/// Waits for a hub's welcome: the memfd, the bells, and the plugin's number.
pub(crate) fn take_hub_welcome(socket: &OwnedFd, deadline: Instant) -> Result<(OwnedFd, HubOffer), Error> {
    let (letter, [memfd, a, b, c, d, slots]) = wait_for_welcome::<HUB_DESCRIPTORS>(socket, DOORBELLS | HUB, deadline)?;
    let bells = Offer { peer: Bells::received(a, b)?, own: Bells::received(c, d)? };
    // A number that none can be is refused when the plugin attaches.
    let id = PeerId(u16::try_from(letter.peer).unwrap_or(u16::MAX));
    Ok((memfd, HubOffer { bells, slots: Arc::new(Bell::received(slots)?), id }))
}

fn wait_for_welcome<const COUNT: usize>(
    socket: &OwnedFd,
    required: u32,
    deadline: Instant,
) -> Result<(Letter, [OwnedFd; COUNT]), Error> {
    loop {
        let mut descriptors = Vec::new();
        if let Some(letter) = read(socket.as_fd(), &mut descriptors)? {
            letter.check(WELCOME, required)?;
            let seen = descriptors.len();
            let descriptors = descriptors.try_into();
            let descriptors = descriptors.map_err(|_| HandshakeError::Descriptors { seen, expected: COUNT })?;
            return Ok((letter, descriptors));
        }
        if !poll_until(&mut [PollFd::new(socket, PollFlags::IN)], Some(deadline))? {
            return Err(HandshakeError::Timeout.into());
        }
    }
}

/// Says that this side has attached.
pub(crate) fn ready(socket: BorrowedFd<'_>) -> Result<(), Error> {
    write(socket, Letter::new(READY), &[])
}

fn take(socket: BorrowedFd<'_>, kind: u32, required: u32) -> Result<Option<()>, Error> {
    let mut descriptors = Vec::new();
    let Some(letter) = read(socket, &mut descriptors)? else { return Ok(None) };
    letter.check(kind, required)?;
    Ok(Some(()))
}

/// Sends a message whole, or fails.
fn write(socket: BorrowedFd<'_>, letter: Letter, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HUB_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        // There is room for as many as there ever are.
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let bytes = [IoSlice::new(letter.as_bytes())];
    match sendmsg(socket, &bytes, &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(HandshakeError::HungUp.into()),
        Err(error) => Err(Error::io("cannot send through the handshake's socket")(error)),
    }
}

/// Receives a message whole, with the descriptors that came along; `None` if there is none yet.
fn read(socket: BorrowedFd<'_>, descriptors: &mut Vec<OwnedFd>) -> Result<Option<Letter>, Error> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HUB_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; size_of::<Letter>()];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
        Ok(received) => received,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(Errno::CONNRESET) => return Err(HandshakeError::HungUp.into()),
        Err(error) => return Err(Error::io("cannot receive from the handshake's socket")(error)),
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // More descriptors than fit were closed by the kernel; more bytes than a letter has are no letter.
    let cut_off = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match received.bytes {
        0 => Err(HandshakeError::HungUp.into()),
        len if len == bytes.len() && !cut_off => Ok(Some(zerocopy::transmute!(bytes))),
        len => Err(HandshakeError::Length { seen: len, expected: bytes.len() }.into()),
    }
}
