//! The software PSP.
