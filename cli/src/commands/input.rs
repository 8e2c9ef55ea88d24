//! Lines of a file or of standard input. A thread of its own reads them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

/// Bytes of complete lines in one piece.
const PIECE: usize = 256 * 1024;
/// Longest line: the largest message and the rest of its record, with room.
const LINE: u64 = 8 << 20;

/// The size of the input, if it is a file.
pub(crate) fn size(path: Option<&Path>) -> Option<u64> {
    Some(path?.metadata().ok()?.len())
}

/// Pieces of complete lines of `path`, or of standard input. The last one may lack its line's end. Compressed input is
/// recognised. `progress` counts the bytes of the file.
pub(crate) fn pieces(path: Option<PathBuf>, progress: ProgressBar) -> mpsc::Receiver<anyhow::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut reader = match open(path.as_deref(), progress) {
            Ok(reader) => reader,
            Err(error) => {
                // If the receiver is gone, nobody needs the error.
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        loop {
            match next_piece(&mut *reader) {
                Ok(piece) if piece.is_empty() => return,
                piece => {
                    let failed = piece.is_err();
                    if sender.blocking_send(piece).is_err() || failed {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

fn open(path: Option<&Path>, progress: ProgressBar) -> anyhow::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = match path {
        None => Box::new(std::io::stdin()),
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    let mut raw = BufReader::with_capacity(PIECE, progress.wrap_read(raw));
    let gzip = raw.fill_buf().context("cannot read the input")?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip { Box::new(BufReader::with_capacity(PIECE, MultiGzDecoder::new(raw))) } else { Box::new(raw) })
}

fn next_piece(reader: &mut dyn BufRead) -> anyhow::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE + 4096);
    while piece.len() < PIECE {
        let read = (&mut *reader).take(LINE).read_until(b'\n', &mut piece).context("cannot read the input")?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE && piece.last() != Some(&b'\n') {
            bail!("a line is longer than {LINE} bytes");
        }
    }
    Ok(piece.into())
}
