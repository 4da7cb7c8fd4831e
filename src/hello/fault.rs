//! What is wrong with the bytes, before it becomes a refusal.

use crate::reason::Reason;

/// A reason and what exactly was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Reason::HelloMalformed, detail)
    }
}

/// Device bytes for people: printable ASCII as it is, the rest as `\x..`, cut at [`SHOWN`] bytes.
/// Records and terminals show it, so nothing that could steer them may pass.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.split_at_checked(SHOWN) {
        Some((head, rest)) if !rest.is_empty() => {
            format!("{}… ({} bytes)", head.escape_ascii(), bytes.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// As many bytes as a host name with a trailing dot can have.
const SHOWN: usize = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_bytes_are_printable_and_bounded() {
        assert_eq!(shown(b"a\x1b[2J\0\xc3\xa4"), r"a\x1b[2J\x00\xc3\xa4");
        assert_eq!(shown(&[b'a'; 254]).len(), 254);
        let long = shown(&[0; 60_000]);
        assert!(long.ends_with("… (60000 bytes)"));
        assert!(long.len() < 1_100);
    }
}
