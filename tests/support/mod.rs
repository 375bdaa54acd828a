//! What tests share: a whole server on loopback, a platform to launch guests on, and their short names.

pub(crate) mod app;
pub(crate) mod certificates;
pub(crate) mod cli;
pub(crate) mod command;
pub(crate) mod exposition;
pub(crate) mod faulty;
pub(crate) mod hooked;
pub(crate) mod host;
pub(crate) mod idp;
pub(crate) mod kbs;
pub(crate) mod kds;
pub(crate) mod manager;
pub(crate) mod other;
pub(crate) mod people;
pub(crate) mod postgres;
pub(crate) mod qemu;
pub(crate) mod receiver;
pub(crate) mod server;
pub(crate) mod slow;
pub(crate) mod softhsm;
pub(crate) mod store;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod vectors;
pub(crate) mod watched;

pub(crate) use app::{App, Reply};
pub(crate) use cli::Shell;
pub(crate) use host::{Vm, ca, platform};
