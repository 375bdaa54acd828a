//! Rego: text and documents in, decisions out.
