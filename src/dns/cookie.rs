//! DNS cookies (RFC 7873): a device that sends one can tell the box's answers from forged ones.

use std::net::IpAddr;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};

/// What a query's COOKIE option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientCookie([u8; CLIENT]);

/// A COOKIE option of impossible length: the query is malformed (RFC 7873 section 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCookie;

/// Makes server cookies. The secret lives as long as the process: a restart costs a device nothing, for
/// no answer depends on its server cookie.
#[derive(Debug)]
pub(super) struct Cookies {
    key: hmac::Key,
}

impl ClientCookie {
    /// Reads the data of a COOKIE option.
    pub(super) fn read(data: &[u8]) -> Result<Self, BadCookie> {
        let server = data.len().checked_sub(CLIENT).ok_or(BadCookie)?;
        if server != 0 && !SERVER.contains(&server) {
            return Err(BadCookie);
        }
        let client = data.first_chunk().ok_or(BadCookie)?;
        Ok(Self(*client))
    }
}

impl Cookies {
    pub(super) fn new() -> Result<Self, Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())?;
        Ok(Self { key })
    }

    /// The data of the answer's COOKIE option: the client's cookie and the server's (RFC 7873
    /// appendix B.1).
    pub(super) fn answer(&self, client: ClientCookie, device: IpAddr) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&client.0);
        match device.to_canonical() {
            IpAddr::V4(v4) => context.update(&v4.octets()),
            IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        let tag = context.sign();
        let server = tag.as_ref().iter().take(*SERVER.start());
        client.0.iter().chain(server).copied().collect()
    }
}

/// Bytes of a client's cookie (RFC 7873 section 4).
const CLIENT: usize = 8;
/// Bytes of a server's.
const SERVER: std::ops::RangeInclusive<usize> = 8..=32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_possible_lengths_are_cookies() {
        for length in 0..=41 {
            let read = ClientCookie::read(&vec![7; length]);
            assert_eq!(read.is_ok(), length == 8 || (16..=40).contains(&length), "{length}");
        }
    }

    #[test]
    fn the_server_cookie_depends_on_cookie_device_and_secret() {
        let cookies = Cookies::new().expect("random numbers");
        let [one, two] = [[1; 8], [2; 8]].map(ClientCookie);
        let device = IpAddr::from([10, 10, 3, 7]);
        let answer = cookies.answer(one, device);
        assert_eq!((answer.len(), answer.get(..8)), (16, Some(&[1; 8][..])));
        assert_eq!(cookies.answer(one, device), answer);
        assert_ne!(cookies.answer(one, [10, 10, 3, 8].into()).get(8..), answer.get(8..));
        assert_ne!(cookies.answer(two, device).get(8..), answer.get(8..));
        let others = Cookies::new().expect("random numbers");
        assert_ne!(others.answer(one, device), answer);
    }
}
