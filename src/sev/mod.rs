//! What AMD specifies: bytes in, facts out.
