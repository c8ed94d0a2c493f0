//! What a half of a transport hears when it sleeps: its doorbell, through a reactor, or a helper thread.

use std::io;
use std::task::{Context, Poll, Waker};

use async_io::Async;
use rapace_shm::core::wake::Ticket;
use rapace_shm::{Error, EventSource, OsEndpoint};

use crate::helper::Helper;
#[cfg(feature = "tokio")]
use crate::on_tokio::Watched;
use crate::wakers::Cause;

/// Who watches the doorbells of a transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reactor {
    /// async-io's, which is everywhere: without its executor it has a thread of its own.
    #[default]
    AsyncIo,
    /// That of the tokio runtime in which the transport is made.
    #[cfg(feature = "tokio")]
    Tokio,
}

/// How one half is woken.
#[derive(Debug)]
pub(crate) enum Bell<E: OsEndpoint> {
    AsyncIo(Async<EventSource>),
    #[cfg(feature = "tokio")]
    Tokio(Watched),
    /// One helper for each cause, as each has a futex of its own.
    Helpers([Helper<E>; 2]),
}

impl<E: OsEndpoint> Bell<E> {
    /// `source`: the half's, or [`Error::NoDoorbell`].
    pub(crate) fn new(reactor: Reactor, source: Result<EventSource, Error>) -> Result<Self, Error> {
        let source = match source {
            Err(Error::NoDoorbell) => return Ok(Self::Helpers(Default::default())),
            source => source?,
        };
        match reactor {
            Reactor::AsyncIo => Async::new_nonblocking(source).map(Self::AsyncIo).map_err(unwatched),
            #[cfg(feature = "tokio")]
            Reactor::Tokio => Watched::new(source).map(Self::Tokio),
        }
    }

    /// Ready once the bell was rung (or a helper's sleep has ended) since it was silenced; otherwise `waker` will be woken
    /// when it is.
    pub(crate) fn poll_rung(
        &mut self,
        endpoint: &E,
        cause: Cause,
        ticket: Ticket,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        match self {
            Self::AsyncIo(source) => source.poll_readable(&mut Context::from_waker(waker)).map_err(unwatched),
            #[cfg(feature = "tokio")]
            Self::Tokio(source) => source.poll_stirred(&mut Context::from_waker(waker)).map_err(unwatched),
            Self::Helpers(helpers) => helpers[cause as usize].poll(endpoint, ticket, waker),
        }
    }

    /// Whether one ring is for every cause.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Self::Helpers(_))
    }
}

pub(crate) fn unwatched(source: io::Error) -> Error {
    Error::Io { what: "the runtime cannot watch the doorbell", source }
}
