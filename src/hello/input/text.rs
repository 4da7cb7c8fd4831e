//! Bytes written as text: hex in the ways tools print it, and base64.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Format, InputError};

/// The bytes that a text stands for; `None` when it is no such text, and so the bytes themselves.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Format, Vec<u8>)>, InputError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Ok(None);
    }
    if let Some(digits) = hex_digits(text) {
        let (pairs, left_over) = digits.as_chunks::<2>();
        if !left_over.is_empty() {
            return Err(InputError::HalfByte(digits.len()));
        }
        let decoded = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        return Ok(Some((Format::Hex, decoded)));
    }
    Ok(base64(text).map(|decoded| (Format::Base64, decoded)))
}

/// The values of the digits, when the text has nothing but them, separators and `0x`.
fn hex_digits(text: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(text.len());
    for word in text.split(|c: char| c.is_ascii_whitespace() || matches!(c, ':' | ',' | '-')) {
        // `0x` stands in front of each byte, or once in front of all.
        let word = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
        for digit in word.chars() {
            digits.push(u8::try_from(digit.to_digit(16)?).ok()?);
        }
    }
    (!digits.is_empty()).then_some(digits)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let joined: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // A short word of letters is more likely what a device sent in clear.
    if joined.len() < SHORTEST_BASE64 {
        return None;
    }
    let padding = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, padding).decode(&joined).ok())
}

/// The five bytes of a record header.
const SHORTEST_BASE64: usize = 7;
