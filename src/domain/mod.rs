//! The words of Keyward as types: owners' objects, launches, decisions.
//!
//! Plain data that every room above may name: no I/O, no clock, no policy language. What comes in
//! from outside is parsed into these types or refused; what leaves is exactly what they hold.

pub mod applied;
pub mod approval;
pub mod bytes;
pub mod connection;
pub mod decision;
pub mod etag;
pub mod freeze;
pub mod hold;
pub mod host_name;
pub mod impact;
pub mod labels;
pub mod launch;
pub mod name;
pub mod notice;
pub mod object;
pub mod once;
pub mod platform;
pub mod revision;
pub mod role;
pub mod sealed;
pub mod secret_version;
pub mod state;
pub mod time;
pub mod token;
pub mod trust;
pub mod workload;

pub use bytes::{Base64, Base64Bytes, FlexDigest, Hex, HexDigest};
pub use decision::{Decision, Outcome};
pub use host_name::HostName;
pub use labels::Labels;
pub use launch::{Launch, LaunchState};
pub use name::{Name, NameError};
pub use revision::Revision;
pub use role::Role;
pub use time::{Clock, SystemClock, Time};
