//! A service manager: the socket to which a server says how it is.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::Shell;

/// See the module.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    /// One that the shell's commands are told of.
    pub(crate) fn of(shell: &mut Shell) -> Self {
        let path = shell.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Far more than anything takes: who waits for what never comes is to fail, not to hang.
        socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        shell.set("NOTIFY_SOCKET", path.to_str().unwrap());
        Self(socket)
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("the server says nothing");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The first message with this in it; what was said before it.
    #[track_caller]
    pub(crate) fn until(&self, what: &str) -> (Vec<String>, String) {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message.contains(what) {
                return (before, message);
            }
            before.push(message);
        }
    }
}
