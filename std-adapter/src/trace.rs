//! What happens seldom, as events of the `tracing` crate (feature `tracing`); nothing on the way of a message.
//!
//! Without the feature the macro is nothing at all: its arguments are not even evaluated.

/// An event, with `tracing`'s own syntax: the level first.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($what:tt)*) => { ::tracing::event!(::tracing::Level::$level, $($what)*) };
}

/// An event that nobody hears.
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $($what:tt)*) => {};
}

pub(crate) use event;
