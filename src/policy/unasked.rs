//! Rules that look as if the server asked for them and that it does not: misspelt, or in files for tests.

use super::check::{Checked, RESERVED, at};
use super::diagnostic::{Diagnostic, distance};
use super::syntax::Module;

impl Checked<'_> {
    /// Rules of policies whose names are all but ones that the server asks for.
    pub(super) fn misspelt(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for module in self.names.modules.iter().take(self.own) {
            let mut allow = module.package.clone();
            allow.push("allow".to_owned());
            if !self.names.rules.contains_key(&allow) {
                continue;
            }
            for rule in &module.rules {
                let Some(name) = rule.name.first() else { continue };
                let meant = RESERVED.iter().find(|reserved| is_slip(name, reserved));
                if let Some(meant) = meant {
                    let message = format!("the server never asks for a rule `{name}`");
                    let hint = format!("is it `{meant}`?");
                    found.push(at(module, rule.offset, message).with_hint(hint).warning());
                }
            }
        }
        found
    }

    /// Refuses rules of a policy in files that are not evaluated.
    pub(super) fn tests(&self, tests: &[Module], found: &mut Vec<Diagnostic>) {
        let own = || self.names.modules.iter().take(self.own);
        for module in tests {
            if !own().any(|policy| policy.package == module.package) {
                continue;
            }
            for rule in &module.rules {
                let name = rule.name.first().map(String::as_str).unwrap_or_default();
                if RESERVED.contains(&name) {
                    let message = format!("`{name}` in a test file, which the server does not evaluate");
                    let hint = "put it in a file whose name does not end in `_test.rego`";
                    found.push(at(module, rule.offset, message).with_hint(hint));
                }
            }
        }
    }
}

/// Whether a name is another with one letter more, less or other, or two that changed places.
fn is_slip(name: &str, meant: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    name != meant
        && match distance(name, meant) {
            1 => true,
            2 => sorted(name) == sorted(meant),
            _ => false,
        }
}
