//! Logs of an earlier version, and logs that are changed behind the store's back.

use std::fs::File;
use std::io::copy;
use std::path::Path;

use flate2::read::GzDecoder;

pub use crate::sqlite::checksum::restamp;

/// The files of the data directory that `store/tests/fixtures/log-1` describes.
const FIRST_VERSION: [&str; 3] = ["registry.db", "1.log.db", "1.index.db"];

/// Messages in it.
pub const FIRST_VERSION_MESSAGES: usize = 3_000;

/// Puts a data directory into a directory that is there, as a version without checksums left it.
///
/// # Errors
/// The system's.
pub fn unpack_first_version(into: &Path) -> std::io::Result<()> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-1");
    for name in FIRST_VERSION {
        let packed = File::open(from.join(format!("{name}.gz")))?;
        copy(&mut GzDecoder::new(packed), &mut File::create(into.join(name))?)?;
    }
    Ok(())
}
