//! The protocol names of a hello (RFC 7301 section 3.1).

use std::fmt;

use smallvec::SmallVec;

use super::take::Take;

/// ALPN protocol names, as they stand in the hello: each behind one byte of length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Alpn(SmallVec<[u8; INLINE]>);

impl Alpn {
    /// The names, in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut take = Take::new(&self.0);
        std::iter::from_fn(move || take.vector8())
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of a name of more than 255 bytes, which no hello has room for, only so many are kept.
impl<'a> FromIterator<&'a [u8]> for Alpn {
    fn from_iter<T: IntoIterator<Item = &'a [u8]>>(names: T) -> Self {
        let mut wire = SmallVec::new();
        for name in names {
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            wire.push(length);
            wire.extend_from_slice(name.get(..usize::from(length)).unwrap_or(name));
        }
        Self(wire)
    }
}

impl fmt::Debug for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|name| name.escape_ascii().to_string())).finish()
    }
}

/// Room for what devices offer: `x-amzn-mqtt-ca`, or `h2` and `http/1.1`.
const INLINE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        let long = [7; 300];
        let names = [&b"h2"[..], b"", b"http/1.1", &long];
        let alpn: Alpn = names.into_iter().collect();
        assert_eq!(alpn.iter().collect::<Vec<_>>(), [&b"h2"[..], b"", b"http/1.1", &long[..255]]);
        assert_eq!((alpn.len(), alpn.is_empty()), (4, false));
        assert!(Alpn::default().is_empty());
    }
}
