//! Reads ahead in another thread: while one decompresses, the other can use what there is.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Content that another thread reads. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Ahead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    used: usize,
}

impl Ahead {
    /// Begins to read.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(super) fn of(source: impl Read + Send + 'static) -> io::Result<Self> {
        let (send, blocks) = sync_channel(WAITING);
        std::thread::Builder::new().name("read-ahead".to_owned()).spawn(move || {
            let mut source = source;
            loop {
                let mut block = Vec::with_capacity(BLOCK);
                let read = (&mut source).take(BLOCK as u64).read_to_end(&mut block);
                let last = block.is_empty();
                // What came before an error is good.
                let sent = last || send.send(Ok(block)).is_ok();
                if let Err(error) = read {
                    // Nobody may be left who wants to know.
                    let _ = send.send(Err(error));
                    return;
                }
                if last || !sent {
                    return;
                }
            }
        })?;
        Ok(Self { blocks, block: Vec::new(), used: 0 })
    }
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() {
            // A channel without a sender is the end, or a thread that has panicked: what is missing
            // then, the lines' hashes tell.
            let Ok(next) = self.blocks.recv() else { return Ok(0) };
            self.block = next?;
            self.used = 0;
        }
        let left = self.block.get(self.used..).unwrap_or_default();
        let count = (&*left).read(into)?;
        self.used += count;
        Ok(count)
    }
}

const BLOCK: usize = 256 << 10;
/// Blocks that wait to be used.
const WAITING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_there_is() {
        let content: Vec<u8> = (0..=250).cycle().take(3 * BLOCK + 17).collect();
        let mut read = Vec::new();
        Ahead::of(io::Cursor::new(content.clone())).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        let mut none = Vec::new();
        assert_eq!(Ahead::of(io::empty()).unwrap().read_to_end(&mut none).unwrap(), 0);
    }

    #[test]
    fn an_error_comes_behind_what_was_good() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        let mut ahead = Ahead::of((&b"good"[..]).chain(Broken)).unwrap();
        let mut read = Vec::new();
        let error = ahead.read_to_end(&mut read).unwrap_err();
        assert_eq!((error.kind(), read.as_slice()), (io::ErrorKind::InvalidData, &b"good"[..]));
        // Dropped before its end, it leaves nobody behind who waits.
        drop(Ahead::of(io::repeat(1)).unwrap());
    }
}
