//! Checked takes from the front of a byte slice.
//!
//! Every length in a hello comes from the device. A [`Take`] hands out only what is there and says
//! `None` otherwise, so that no length can be believed by accident. It never copies.

/// The bytes not yet taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (pair, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*pair))
    }

    /// A vector with one byte of length in front (RFC 8446 section 3.4).
    pub(super) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u8()?);
        self.bytes(length)
    }

    /// A vector with two bytes of length in front.
    pub(super) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.bytes(length)
    }
}

/// The numbers of a list of 16-bit values, or `None` when a byte is left over.
pub(super) fn numbers(bytes: &[u8]) -> Option<impl Iterator<Item = u16> + Clone + '_> {
    let (pairs, left_over) = bytes.as_chunks::<2>();
    left_over.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_takes_nothing() {
        let mut take = Take::new(&[2, 0xaa]);
        assert_eq!(take.vector8(), None);
        let mut take = Take::new(&[0, 1, 0xaa, 0xbb]);
        assert_eq!(take.vector16(), Some(&[0xaa][..]));
        assert_eq!(take.u16(), None);
        assert_eq!(take.rest(), [0xbb]);
        assert_eq!(take.u8(), Some(0xbb));
        assert!(take.is_empty());
    }

    #[test]
    fn a_list_of_numbers_has_no_half_number() {
        let list: Vec<u16> = numbers(&[0x13, 0x01, 0x13, 0x02]).expect("two numbers").collect();
        assert_eq!(list, [0x1301, 0x1302]);
        assert!(numbers(&[0x13, 0x01, 0x13]).is_none());
    }
}
