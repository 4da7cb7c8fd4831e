//! Checkpoints that were kept elsewhere: what the log was, so that a tail that was cut shows.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::super::chain::{self, Stored};
use super::super::read::Line;
use super::super::sign::{Context, Signed};
use super::keys::Keys;
use super::report::{Code, Findings, Place};

/// Checkpoint lines to compare a log with.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    lines: VecDeque<Anchor>,
}

#[derive(Clone, Debug)]
struct Anchor {
    seq: u64,
    line: Vec<u8>,
    place: Place,
    /// It is the log's own copy.
    own: bool,
}

impl Anchors {
    /// Reads checkpoint lines from a file.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is no record; it must have at least one.
    pub fn read(path: &Path) -> io::Result<Self> {
        let content = std::fs::read(path)?;
        let name = path.display().to_string();
        let mut anchors = Self::default();
        anchors.parse(&content, &name, false).map_err(io::Error::other)?;
        if anchors.lines.is_empty() {
            return Err(io::Error::other("it holds no checkpoint"));
        }
        Ok(anchors)
    }

    /// The log's own copy of its newest checkpoint, beside those from elsewhere.
    pub(super) fn add_copy(&mut self, directory: &Path, findings: &mut Findings) {
        let name = super::super::journal::CHECKPOINT;
        let Ok(content) = std::fs::read(directory.join(name)) else { return };
        if let Err(sentence) = self.parse(&content, name, true) {
            let place = Some(Place { file: name.to_owned(), line: 1 });
            findings.add(Code::CopyInvalid, place, sentence);
        }
    }

    /// Sorts them, and leaves out those that no key of the log signed.
    pub(super) fn check(&mut self, keys: &Keys, findings: &mut Findings) {
        self.lines.make_contiguous().sort_by_key(|anchor| anchor.seq);
        self.lines.retain(|anchor| {
            let signed = Signed::parse(Context::Line, &anchor.line);
            // A key that is not known may be of a time that was cut off with its certificate.
            let key = signed.as_ref().and_then(|signed| keys.of_id(signed.key));
            let unknown = signed.is_some() && key.is_none();
            let holds =
                signed.zip(key).is_some_and(|(signed, key)| signed.is_by(key, Context::Line));
            if !holds && !unknown {
                let code = if anchor.own { Code::CopyInvalid } else { Code::AnchorInvalid };
                let sentence = "the line is not signed by a key of this log".to_owned();
                findings.add(code, Some(anchor.place.clone()), sentence);
            }
            holds || unknown
        });
    }

    /// Compares those of a line of the log, and those before it, with the log.
    pub(super) fn meet(&mut self, seq: u64, first: u64, line: &Line<'_>, findings: &mut Findings) {
        while let Some(anchor) = self.lines.front().filter(|anchor| anchor.seq <= seq) {
            let (at, from) = (anchor.seq, &anchor.place.file);
            if at < first {
                let sentence = format!(
                    "the checkpoint of record {at} from {from} was removed from the log with its \
                     segment"
                );
                findings.add(Code::AnchorRemoved, Some(anchor.place.clone()), sentence);
            } else if at < seq {
                let sentence = format!("record {at} is missing, of which {from} has a copy");
                findings.add(Code::RecordsMissing, Some(line.into()), sentence);
            } else if anchor.line != line.bytes {
                let sentence = format!("record {seq} is not the one of which {from} has a copy");
                let expected = chain::prefixed(&chain::hash(&anchor.line));
                let found = chain::prefixed(&chain::hash(line.bytes));
                let place = Some(line.into());
                findings.differ(Code::AnchorDiffers, place, sentence, expected, found);
            }
            self.lines.pop_front();
        }
    }

    /// The newest of those that the log does not reach.
    pub(super) fn beyond(&self) -> Option<(u64, &str)> {
        self.lines.back().map(|anchor| (anchor.seq, anchor.place.file.as_str()))
    }

    fn parse(&mut self, content: &[u8], file: &str, own: bool) -> Result<(), String> {
        for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let stored = Stored::parse(line)
                .ok_or_else(|| format!("line {number} is no checkpoint as the log writes them"))?;
            let place = Place { file: file.to_owned(), line: number };
            let seq = stored.chain().seq;
            self.lines.push_back(Anchor { seq, line: line.to_vec(), place, own });
        }
        Ok(())
    }
}
