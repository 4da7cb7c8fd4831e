//! What must hold for any bytes, for the fuzzer and for `cargo test` over the kept inputs alike.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod hello;
#[path = "../../tests/support/rustls_oracle.rs"]
mod rustls_oracle;

/// Cuts `bytes` at places that follow from `seed`, so that a failure can be repeated.
fn pieces(mut bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed | 1;
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        // xorshift: any numbers will do that are different ones.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Mostly small pieces, because the headers are small.
        let most = 1 << (state >> 60);
        let size = usize::try_from(state % most).unwrap_or_default() + 1;
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
