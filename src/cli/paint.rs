//! Colours for people, where they are wanted.

use std::io::IsTerminal as _;

/// Whether to colour.
#[derive(Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// On a terminal whose user did not ask for none (no-color.org).
    pub(super) fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !unwanted)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn added(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn removed(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn changed(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn place(self, text: &str) -> String {
        self.with("36", text)
    }
}
