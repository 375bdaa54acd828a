//! The table of kernel hashes that QEMU puts before the firmware (QEMU, `target/i386/sev.c`).
//!
//! 176 bytes: GUID ‖ u16 168 ‖ three entries of GUID ‖ u16 50 ‖ SHA-256, for the command line, the initrd and
//! the kernel in this order ‖ 8 zero bytes.

use openssl::sha::{Sha256, sha256};
use uuid::{Uuid, uuid};

use crate::sev::Digest;

/// The padded table's size in bytes.
pub(super) const TABLE_SIZE: usize = 176;

const TABLE: Uuid = uuid!("9438d606-4f22-4cc9-b479-a793d411fd21");
const CMDLINE: Uuid = uuid!("97d02dd8-bd20-4c94-aa78-e7714d36ab2a");
const INITRD: Uuid = uuid!("44baf731-3a2f-4bd7-9af1-41e29169781d");
const KERNEL: Uuid = uuid!("4de79437-abd2-427f-b835-d5b172d2045b");

/// The hashes of what a guest boots directly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KernelHashes {
    /// Of the kernel.
    pub kernel: Digest,
    /// Of the initrd; of the empty file if there is none.
    pub initrd: Digest,
    /// Of the command line with one NUL behind it; of the lone NUL if there is none.
    pub cmdline: Digest,
}

impl KernelHashes {
    /// Hashes what QEMU is given. The command line is taken as it is: QEMU does not trim it, so neither may we.
    pub fn from_files(kernel: &[u8], initrd: Option<&[u8]>, cmdline: Option<&str>) -> Self {
        Self {
            kernel: sha256(kernel),
            initrd: sha256(initrd.unwrap_or_default()),
            cmdline: cmdline_hash(cmdline.unwrap_or_default()),
        }
    }

    /// From hashes; a missing initrd or command line is the hash of the empty file or of the lone NUL. The hash
    /// of a command line is taken with its NUL.
    pub fn from_digests(kernel: Digest, initrd: Option<Digest>, cmdline: Option<Digest>) -> Self {
        Self {
            kernel,
            initrd: initrd.unwrap_or_else(|| sha256(&[])),
            cmdline: cmdline.unwrap_or_else(|| cmdline_hash("")),
        }
    }

    /// The table as it is measured.
    pub fn to_table(self) -> [u8; TABLE_SIZE] {
        let entries = [
            (CMDLINE, self.cmdline),
            (INITRD, self.initrd),
            (KERNEL, self.kernel),
        ];
        let entries = entries
            .into_iter()
            .flat_map(|(guid, digest)| header(guid, 50).chain(digest));
        let mut table = [0; TABLE_SIZE];
        table
            .iter_mut()
            .zip(header(TABLE, 168).chain(entries))
            .for_each(|(byte, value)| *byte = value);
        table
    }
}

/// SHA-256 of a command line with one NUL behind it.
pub(in crate::sev) fn cmdline_hash(cmdline: &str) -> Digest {
    let mut hash = Sha256::new();
    hash.update(cmdline.as_bytes());
    hash.update(&[0]);
    hash.finish()
}

fn header(guid: Uuid, length: u16) -> impl Iterator<Item = u8> {
    guid.to_bytes_le().into_iter().chain(length.to_le_bytes())
}
