//! The log's signing keys on the disk: one in use, a new one each day, the old one wiped.
//!
//! Private keys live in a directory of their own, which only the daemon's user may enter; the log's
//! group reads the log, never a key. `keys.ndjson` in the log's directory holds a line for each key:
//! its public half, signed by the key before it, so that whoever has pinned the first key can follow
//! the chain of keys to any later one.
//!
//! A key is changed in an order that a crash cannot break: the new private key is durable (`next`)
//! before the record that introduces it, and that record is durable before the old key is wiped.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::sign::{Context, KeyId, PublicKey, SigningKey};
use super::{clock, storage};

/// Where keys are, and with what the first one is certified.
#[derive(Clone, Debug)]
pub(super) struct KeyPlace {
    /// Private keys; mode 0700.
    pub(super) keys: PathBuf,
    /// The log's directory, for `keys.ndjson`.
    pub(super) log: PathBuf,
    /// A seed that the service manager keeps (systemd.exec(5), `LoadCredentialEncrypted=`).
    pub(super) root: Option<PathBuf>,
}

/// The key in use.
#[derive(Debug)]
pub(super) struct Keyring {
    place: KeyPlace,
    current: Held,
}

/// A key that is on the disk, and not yet in use.
#[derive(Debug)]
pub(super) struct NextKey(Held);

/// A key with what is known of it.
#[derive(Debug)]
struct Held {
    key: Arc<SigningKey>,
    epoch: u32,
    /// Wall time when it was made, ms.
    made: u64,
}

/// The key that the end of the chain is signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyInForce {
    pub(super) id: String,
    /// Sequence number of the record that introduced it.
    pub(super) since: u64,
}

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error(
        "cannot read or write the audit log's signing key in {place}: {source}; check that the \
         directory is on a working disk and belongs to the daemon's user"
    )]
    Io { place: PathBuf, source: io::Error },
    #[error(
        "{0} is not a signing key that this program wrote; restore it, or move the audit \
         directory and its keys away to begin a new log"
    )]
    Malformed(PathBuf),
    #[error(
        "the audit log has records, but its signing key {id} is not in {keys}; restore the key, or \
         move the audit directory and its keys away to begin a new log"
    )]
    Missing { id: String, keys: PathBuf },
    #[error("the system's random numbers or Ed25519 failed")]
    Crypto,
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}

impl KeyPlace {
    fn path(&self, name: &str) -> PathBuf {
        self.keys.join(name)
    }

    fn io(&self, source: io::Error) -> KeyError {
        KeyError::Io { place: self.keys.clone(), source }
    }
}

impl Keyring {
    /// Opens the key of a log, or makes the first one of a log without records.
    ///
    /// `in_force` is what the end of the chain says; `None` when it has no record.
    pub(super) fn open(place: KeyPlace, in_force: Option<&KeyInForce>) -> Result<Self, KeyError> {
        make_private(&place.keys).map_err(|source| place.io(source))?;
        let Some(wanted) = in_force else { return first(place) };
        let next = read(&place.path(NEXT))?;
        let current = read(&place.path(CURRENT));
        let is = |held: &Held| held.key.id().as_str() == wanted.id;
        match (current, next) {
            (Ok(Some(current)), next) if is(&current) => {
                if next.is_some() {
                    // It was made, but no record has introduced it.
                    wipe(&place.path(NEXT)).map_err(|source| place.io(source))?;
                }
                Ok(Self { place, current })
            }
            // The record that introduces it is durable; what came after is not.
            (Ok(Some(old)), Some(next)) if is(&next) => {
                let mut ring = Self { place, current: old };
                ring.adopt(NextKey(next), wanted.since)?;
                Ok(ring)
            }
            // The old one is wiped already.
            (_, Some(next)) if is(&next) => {
                replace_current(&place).map_err(|source| place.io(source))?;
                Ok(Self { place, current: next })
            }
            (Err(error), _) => Err(error),
            _ => Err(KeyError::Missing { id: wanted.id.clone(), keys: place.keys }),
        }
    }

    pub(super) fn key(&self) -> &Arc<SigningKey> {
        &self.current.key
    }

    pub(super) fn epoch(&self) -> u32 {
        self.current.epoch
    }

    /// Whether another day has begun since the key was made (UTC).
    pub(super) fn is_old(&self, now_ms: u64) -> bool {
        now_ms / DAY_MS > self.current.made / DAY_MS
    }

    /// Makes the next key and writes it down.
    pub(super) fn prepare(&self, now_ms: u64) -> Result<NextKey, KeyError> {
        let epoch = self.current.epoch.saturating_add(1);
        make(&self.place, NEXT, epoch, now_ms).map(NextKey)
    }

    /// Takes the next key into use, once the record that introduces it is durable: certifies it,
    /// and wipes the one before.
    ///
    /// # Errors
    /// What could not be written. The key is in use all the same, because the chain says so; the next
    /// start does the rest.
    pub(super) fn adopt(&mut self, next: NextKey, since: u64) -> Result<(), KeyError> {
        let old = std::mem::replace(&mut self.current, next.0);
        let certificate = Certificate::new(&self.current, since, None);
        let place = &self.place;
        certificate
            .append(&place.log, &old.key)
            .and_then(|()| wipe(&place.path(CURRENT)))
            .and_then(|()| replace_current(place))
            .map_err(|source| place.io(source))
    }
}

impl NextKey {
    pub(super) fn key(&self) -> &SigningKey {
        &self.0.key
    }

    pub(super) fn epoch(&self) -> u32 {
        self.0.epoch
    }
}

/// The first key of a log without records.
fn first(place: KeyPlace) -> Result<Keyring, KeyError> {
    // A start may have come this far and no further.
    let current = match read(&place.path(CURRENT))? {
        Some(held) if held.epoch == FIRST_EPOCH => held,
        Some(_) => return Err(KeyError::Malformed(place.path(CURRENT))),
        None => make(&place, CURRENT, FIRST_EPOCH, clock::unix_ms())?,
    };
    let root = place.root.as_deref().map(read_root).transpose()?;
    let certificate = Certificate::new(&current, 1, root.as_ref());
    let signer = root.as_ref().unwrap_or(&current.key);
    certificate.append(&place.log, signer).map_err(|source| place.io(source))?;
    Ok(Keyring { place, current })
}

/// A line of `keys.ndjson`, but for its signature.
#[derive(Serialize)]
struct Certificate<'a> {
    v: u8,
    epoch: u32,
    id: &'a KeyId,
    public: String,
    /// Sequence number of the record that introduced it.
    since: u64,
    time: u64,
    /// The public half of a root key, in the line of the first key.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

impl<'a> Certificate<'a> {
    fn new(held: &'a Held, since: u64, root: Option<&SigningKey>) -> Self {
        Self {
            v: 1,
            epoch: held.epoch,
            id: held.key.id(),
            public: held.key.public().base64(),
            since,
            time: held.made,
            root: root.map(|root| root.public().base64()),
        }
    }

    /// Signs the line and appends it, unless the file has this key already.
    fn append(&self, log: &Path, signer: &SigningKey) -> io::Result<()> {
        let path = log.join(CERTIFICATES);
        let mut line = serde_json::to_vec(self)?;
        line.pop();
        signer.seal(Context::Key, &mut line, 0);
        let known = format!("\"id\":\"{}\"", self.id);
        storage::append_line(&path, &line, |line| line.contains(&known))
    }
}

/// The key to pin: the one that certifies the first key of a log, or the first key itself.
///
/// It is what the log's own files say. Pinning means to keep it elsewhere, and to compare.
///
/// # Errors
/// `keys.ndjson` cannot be read, or does not begin with a key.
pub fn pinned_key(directory: &Path) -> io::Result<PublicKey> {
    #[derive(Deserialize)]
    struct First {
        public: String,
        root: Option<String>,
    }
    let content = fs::read_to_string(directory.join(CERTIFICATES))?;
    let first: First = serde_json::from_str(content.lines().next().unwrap_or_default())?;
    let key = PublicKey::parse(first.root.as_deref().unwrap_or(&first.public));
    key.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not begin with a key"))
}

/// A private key's file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    v: u8,
    epoch: u32,
    /// Unix time in ms.
    made: u64,
    seed: String,
}

fn make(place: &KeyPlace, name: &str, epoch: u32, made: u64) -> Result<Held, KeyError> {
    let mut seed = [0; 32];
    rand::fill(&mut seed)?;
    let key = Arc::new(SigningKey::from_seed(&seed)?);
    let file = KeyFile { v: 1, epoch, made, seed: BASE64.encode(seed) };
    let path = place.path(name);
    let written = serde_json::to_vec(&file).map_err(io::Error::from).and_then(|content| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(KEY_MODE);
        let mut file = options.open(&path)?;
        file.write_all(&content)?;
        file.sync_all()?;
        storage::sync_parent(&path)
    });
    written.map_err(|source| place.io(source))?;
    Ok(Held { key, epoch, made })
}

fn read(path: &Path) -> Result<Option<Held>, KeyError> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| KeyError::Io { place: path.to_owned(), source })?,
    };
    let malformed = || KeyError::Malformed(path.to_owned());
    let file: KeyFile = serde_json::from_slice(&content).map_err(|_| malformed())?;
    let seed = BASE64.decode(&file.seed).map_err(|_| malformed())?;
    let seed: [u8; 32] = seed.try_into().map_err(|_| malformed())?;
    let key = Arc::new(SigningKey::from_seed(&seed)?);
    Ok(Some(Held { key, epoch: file.epoch, made: file.made }))
}

/// The root key: 32 bytes, or their base64.
fn read_root(path: &Path) -> Result<SigningKey, KeyError> {
    let content =
        fs::read(path).map_err(|source| KeyError::Io { place: path.to_owned(), source })?;
    let seed = <[u8; 32]>::try_from(content.as_slice()).ok().or_else(|| {
        let text = std::str::from_utf8(&content).ok()?;
        BASE64.decode(text.trim()).ok()?.try_into().ok()
    });
    let seed = seed.ok_or_else(|| KeyError::Malformed(path.to_owned()))?;
    Ok(SigningKey::from_seed(&seed)?)
}

/// Overwrites a private key. Where the file system writes elsewhere (copy on write, flash), what was
/// there may survive; the keys' directory should then be on an encrypted disk.
fn wipe(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.write_all(&vec![0; len])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    storage::sync_parent(path)
}

fn replace_current(place: &KeyPlace) -> io::Result<()> {
    let current = place.path(CURRENT);
    fs::rename(place.path(NEXT), &current)?;
    storage::sync_parent(&current)
}

fn make_private(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(KEYS_MODE).create(directory)?;
    storage::sync_parent(directory)
}

/// The chain of keys, in the log's directory.
pub(super) const CERTIFICATES: &str = "keys.ndjson";
const CURRENT: &str = "current";
const NEXT: &str = "next";
const FIRST_EPOCH: u32 = 1;
const DAY_MS: u64 = 24 * 3600 * 1000;
const KEY_MODE: u32 = 0o600;
const KEYS_MODE: u32 = 0o700;
