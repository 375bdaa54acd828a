//! One test binary; a module per capability.

mod policy_bundle;
mod policy_hostile;
mod policy_input;
#[cfg(test)]
mod policy_library;
#[cfg(test)]
mod policy_loading;
#[cfg(test)]
mod policy_support;
mod policy_verdict;
