//! The object that says which platforms an owner trusts.

use std::collections::BTreeSet;

use super::RegisterError;
use super::activation::Activating;
use super::draft::{Draft, named};
use crate::domain::object::{Action, Change};
use crate::domain::revision::MAX_MESSAGE;
use crate::domain::trust::{MOST, Trust};

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
        // Said by itself, maybe in an emergency, and since this was written: no manifest takes it back.
        for kept in &self.before.trust.refused {
            if trust.refused.iter().any(|listed| listed.cek == kept.cek) {
                continue;
            }
            let enrolled = trust.enrolled.len();
            trust.enrolled.retain(|listed| listed.cek != kept.cek);
            let why = match enrolled == trust.enrolled.len() {
                true => "is not listed, and stays refused",
                false => "stays refused, though it is listed as enrolled",
            };
            self.warnings.push(format!(
                "Trust: platform {} {why}: `keyward platform enrol` takes a refusal back",
                kept.cek
            ));
            trust.refused.push(kept.clone());
        }
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
