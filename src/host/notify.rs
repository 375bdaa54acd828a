//! Tells systemd how this service is (`sd_notify(3)`), so that what is ordered after it may start.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `READY=1` and a status to the socket that `NOTIFY_SOCKET` names.
///
/// # Errors
/// What sending says. Nobody waits for it where the variable is not set.
pub fn ready(socket: &OsStr, status: &str) -> io::Result<()> {
    send(socket, &format!("READY=1\nSTATUS={status}"))
}

/// Sends assignments, one a line, to the socket that `NOTIFY_SOCKET` names; `@` begins an abstract one.
///
/// # Errors
/// What sending says.
pub fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // Who does not read what it is told holds up nobody.
    from.set_nonblocking(true)?;
    from.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}
