//! One test binary; a module per capability.

mod sev_authority;
mod sev_chain;
mod sev_launch_digest;
mod sev_session;
mod support {
    pub(crate) mod vectors;
}
