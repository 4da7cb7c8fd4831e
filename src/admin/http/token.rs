//! The token that opens the admin listener, and files that nobody else may read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// What is kept of the token: only its hash, and only compared in constant time.
pub(super) struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token of a file.
    ///
    /// # Errors
    /// One sentence with what to do.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let text = read_secret(file)?;
        let token = text.trim();
        let fits = (SHORTEST..=LONGEST).contains(&token.len());
        if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "it must hold one line of {SHORTEST} to {LONGEST} printable characters without spaces; \
                 make one with `openssl rand -hex 32`"
            ));
        }
        Ok(Self(hash(token)))
    }

    /// Whether this is it. Takes the same time wherever the difference is.
    pub(super) fn is(&self, shown: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &hash(shown)).is_ok()
    }
}

/// A file's text, where only its owner (root or this user) may write it, and nobody but the owner and the
/// group may read it.
///
/// # Errors
/// One sentence with what to do.
pub(super) fn read_secret(file: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| error.to_string();
    let mut opened = File::open(file).map_err(unreadable)?;
    // Of the file that is open: another one may have its name a moment later.
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err("it belongs to another user; give it to root or the daemon's user".to_owned());
    }
    if metadata.mode() & FORBIDDEN != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(format!("others may read or change it (mode {mode:o}); `chmod 0640` it"));
    }
    let mut text = String::new();
    opened.by_ref().take(LARGEST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Whatever the group may beyond reading, and all that others may (inode(7)).
const FORBIDDEN: u32 = 0o037;
/// 128 bits in hexadecimal.
const SHORTEST: usize = 32;
const LONGEST: usize = 512;
const LARGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(text: &str, mode: u32) -> Result<Token, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        fs::write(&file, text).expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("its rights");
        Token::read(&file)
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let good = "0123456789abcdef0123456789abcdef";
        let token = token(&format!("{good}\n"), 0o640).expect("a token");
        assert!(token.is(good));
        for wrong in ["", "0", &good[1..], &format!("{good}0"), &good.to_uppercase()] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token", "it is in no log");
    }

    #[test]
    fn what_others_may_read_or_change_is_no_secret() {
        let good = "0123456789abcdef0123456789abcdef";
        for mode in [0o644, 0o641, 0o660, 0o602, 0o666, 0o650] {
            let error = token(good, mode).expect_err("too many may");
            assert!(error.contains("chmod 0640"), "{mode:o}: {error}");
        }
        for mode in [0o600, 0o400, 0o440] {
            token(good, mode).unwrap_or_else(|error| panic!("{mode:o}: {error}"));
        }
        for bad in ["", "short", "a space 0123456789abcdef0123456789", &"x".repeat(513)] {
            assert!(token(bad, 0o600).expect_err("no token").contains("openssl rand"), "{bad}");
        }
    }
}
