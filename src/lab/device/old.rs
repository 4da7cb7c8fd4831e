//! What machines of 2005 say, which no TLS library does any more.

/// A ClientHello as machines of 2005 send it: TLS 1.0 is the best it knows (RFC 2246).
pub fn tls10_hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let mut list = vec![0];
    prefixed(&mut list, name);
    let mut entry = Vec::new();
    prefixed(&mut entry, &list);
    let mut extensions = vec![0, 0];
    prefixed(&mut extensions, &entry);
    let mut hello = vec![3, 1];
    hello.extend([0x5a; 32]);
    hello.push(0);
    // AES-128 and 3DES with SHA-1, without compression.
    prefixed(&mut hello, &[0x00, 0x2f, 0x00, 0x0a]);
    hello.extend([1, 0]);
    prefixed(&mut hello, &extensions);
    let mut handshake = vec![1, 0];
    prefixed(&mut handshake, &hello);
    let mut record = vec![22, 3, 1];
    prefixed(&mut record, &handshake);
    record
}

/// Appends bytes behind their length in two bytes.
fn prefixed(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a hello of the lab is shorter than 64 KiB");
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}
