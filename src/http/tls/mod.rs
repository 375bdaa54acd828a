//! TLS: from files to what connections are made with, also when the files are replaced, and the certificates that
//! clients show.
//!
//! TLS 1.2 and later, ECDHE and AEAD alone, no renegotiation, and no session that outlives its connection: whoever
//! comes back is looked at again, by what is trusted then.

mod facts;
mod files;
mod live;
mod shown;

use std::time::Duration;

pub use facts::TlsFacts;
pub use files::{TlsError, TlsFiles};
pub use live::LiveTls;
pub(super) use shown::{ended, remember, shown};

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
