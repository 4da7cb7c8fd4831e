//! Somebody who looks at the first bytes of a direction, and then goes.
//!
//! Sees bytes as they are read, before they are written; cannot change, hold or reorder them. While
//! there is one the direction copies, because spliced bytes are seen by nobody.

use std::fmt;

/// Sees the bytes of one direction from its first one, until it has seen enough.
///
/// Lives in a box of its own, because a flow carries the room for two of them for all its life.
pub struct Onlooker(Box<Look>);

/// Who looks at the two directions of a flow.
#[derive(Debug, Default)]
pub struct Onlookers {
    /// At what the device sends.
    pub up: Option<Box<Onlooker>>,
    /// At what the endpoint sends.
    pub down: Option<Box<Onlooker>>,
}

type Look = dyn FnMut(&[u8]) -> Attention;

/// Whether an onlooker stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It wants to see the next bytes.
    Stays,
    /// It has seen enough and is dropped.
    Goes,
}

impl Onlooker {
    /// An onlooker that shows everything to `look`.
    pub fn new(look: impl FnMut(&[u8]) -> Attention + 'static) -> Box<Self> {
        Box::new(Self(Box::new(look)))
    }

    /// Shows the next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Attention {
        (self.0)(bytes)
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onlooker")
    }
}
