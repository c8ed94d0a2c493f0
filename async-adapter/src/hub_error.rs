//! What can go wrong at a host that serves many plugins.

use rapace_shm::{Error, PeerId, Unsent};

/// Why a [`HubHostTransport`](crate::HubHostTransport) could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubTransportError {
    /// No plugin that waits together with others has that number: it never came, is gone, or waits alone.
    NotServed {
        /// The number.
        id: PeerId,
    },
    /// There is no plugin to hear from, and none can come.
    NoPlugins,
    /// Something about one plugin; the hub goes on with the others.
    Plugin {
        /// Its number.
        id: PeerId,
        /// What: that it closed, died, or broke the protocol, or that the message is too large for the hub.
        error: Error,
    },
    /// Something about the hub.
    Host(Error),
}

impl HubTransportError {
    /// As it happened to one plugin.
    pub(crate) fn of(id: PeerId) -> impl Fn(Error) -> Self {
        move |error| match error {
            Error::NotServed { id } => Self::NotServed { id },
            error => Self::Plugin { id, error },
        }
    }
}

impl std::fmt::Display for HubTransportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotServed { id } => write!(
                f,
                "no plugin {} is served by this transport; send only between Heard::Joined and Heard::Ended of that number, \
                 and take the ends of those that wait alone",
                id.0
            ),
            Self::NoPlugins => Error::NoPlugins.fmt(f),
            Self::Plugin { id, error } => write!(f, "plugin {}: {error}", id.0),
            Self::Host(error) => write!(f, "hub: {error}"),
        }
    }
}

impl std::error::Error for HubTransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Plugin { error, .. } | Self::Host(error) => Some(error),
            Self::NotServed { .. } | Self::NoPlugins => None,
        }
    }
}

/// What has to do with no plugin in particular.
impl From<Error> for HubTransportError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotServed { id } => Self::NotServed { id },
            Error::NoPlugins => Self::NoPlugins,
            error => Self::Host(error),
        }
    }
}

impl<L> From<Unsent<L, Self>> for HubTransportError {
    fn from(unsent: Unsent<L, Self>) -> Self {
        unsent.error
    }
}
