//! The object that says which platforms an owner trusts.

use std::collections::BTreeSet;

use super::RegisterError;
use super::activation::Activating;
use super::draft::{Draft, named};
use crate::domain::object::{Action, Change};
use crate::domain::revision::MAX_MESSAGE;
use crate::domain::trust::{MOST, MOST_SAID, Trust};

/// Warnings about platforms that stay refused, one by one.
const WARNINGS: usize = 20;

impl Draft<'_> {
    pub(super) fn put_trust(
        &mut self,
        wished: &Trust,
        activating: &Activating<'_>,
    ) -> Result<Change, RegisterError> {
        let mut trust = wished.clone();
        let mut seen = BTreeSet::new();
        for (list, listed) in [("enrolled", &mut trust.enrolled), ("refused", &mut trust.refused)] {
            for (number, one) in listed.iter_mut().enumerate() {
                let refused = |member: &str, why: &str| {
                    let path = format!("{list}[{number}].{member}");
                    Err(RegisterError::invalid("Trust", why).at(&path))
                };
                one.reason = one.reason.trim().to_owned();
                if one.reason.is_empty() {
                    return refused("reason", "say why, for who reads the record later");
                }
                if one.reason.len() > MAX_MESSAGE {
                    return refused("reason", &format!("more than {MAX_MESSAGE} bytes"));
                }
                if !seen.insert(one.cek) {
                    let why = format!("{} is listed twice; leave one of them", one.cek);
                    return refused("cek", &why);
                }
            }
        }
        if seen.len() > MOST {
            let why = format!("{} platforms are listed, {MOST} is the most", seen.len());
            return Err(RegisterError::invalid("Trust", why));
        }
        let listed = trust.enrolled.iter().chain(&trust.refused);
        let said: usize = listed.map(|one| one.reason.len()).sum();
        if said > MOST_SAID {
            let why = format!("all reasons together have {said} bytes, {MOST_SAID} is the most");
            return Err(RegisterError::invalid("Trust", why));
        }
        // Said by itself, maybe in an emergency, and since this was written: no manifest takes it back.
        let listed: BTreeSet<_> = trust.refused.iter().map(|listed| listed.cek).collect();
        let before = self.before.trust.refused.iter();
        let kept: Vec<_> = before
            .filter(|refused| !listed.contains(&refused.cek))
            .cloned()
            .collect();
        let refused: BTreeSet<_> = kept.iter().map(|kept| kept.cek).collect();
        trust.enrolled.retain(|listed| !refused.contains(&listed.cek));
        for kept in kept.iter().take(WARNINGS) {
            let why = match seen.contains(&kept.cek) {
                false => "is not listed, and stays refused",
                true => "stays refused, though it is listed as enrolled",
            };
            self.warnings.push(format!(
                "Trust: platform {} {why}: `keyward platform enrol` takes a refusal back",
                kept.cek
            ));
        }
        if let Some(more) = kept.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
            self.warnings
                .push(format!("Trust: {more} more platforms stay refused"));
        }
        trust.refused.extend(kept);
        trust.sort();
        let action = match self.before.trust == trust {
            true => Action::Unchanged,
            false if self.before.trust.is_silent() => Action::Created,
            false => Action::Updated,
        };
        let detail = format!(
            "{} platforms, {} enrolled, {} refused",
            trust.platforms.as_str(),
            trust.enrolled.len(),
            trust.refused.len()
        );
        self.trust = Some((trust, activating.caller.by(), activating.now));
        let owner = self.before.owner.to_string();
        Ok(named("Trust", owner, action, Some(detail)))
    }
}
