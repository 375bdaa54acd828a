//! The hypervisor's side: what a host says to QEMU over QMP, and what it keeps for a launch.
//!
//! In come a UNIX socket on which QEMU listens and the server's answers as bytes; out go the platform's certificates,
//! the measurement, and whether a packet was injected. [`Qmp`] speaks the protocol and knows no command; [`Qemu`] has
//! the commands that SEV needs, and says whether a guest may still get secrets. [`LaunchFiles`] are the two files that
//! QEMU reads at its start, a [`FileSet`] any that are there together or not at all, [`Patience`] is how long anybody is waited for, [`ready`] tells a service manager that QEMU
//! can be started. Nothing here calls the server or decides what comes next: `cli::host` does.
//!
//! Nothing that is secret passes through: session and packet are wrapped for the PSP. QEMU is believed nothing that
//! matters, as the server believes the host nothing; but a guest is never resumed after a step that failed.
//!
//! Source: QEMU, `docs/interop/qmp-spec`, `qapi/misc-i386.json` (`misc-target.json` before 10.0), `target/i386/sev.c`.

mod files;
mod notify;
mod patience;
mod qemu;
mod qmp;

pub use files::{FileSet, LaunchFiles, Written};
pub use notify::{ready, send as notify};
pub use patience::Patience;
pub use qemu::{Capabilities, GuestInfo, Qemu, QemuError};
pub use qmp::{Qmp, QmpError};
