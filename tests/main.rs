//! One test binary; a module per capability.
