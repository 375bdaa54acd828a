//! What an object leaves out stays as it is: a bundle's files, a firmware's bytes. So that what is shown of them can
//! be applied again.

use super::RegisterError;
use super::draft::{Draft, named};
use crate::domain::object::{Action, Change, FirmwareObject, PolicyBundleObject};
use crate::domain::state::FirmwareInfo;
use crate::domain::{HexDigest, Role};

impl Draft<'_> {
    /// Binds policies to the owner, where any are said; whether they are others than before.
    pub(super) fn bind_to_owner(
        &mut self,
        object: &PolicyBundleObject,
        role: Role,
    ) -> Result<bool, RegisterError> {
        let Some(policies) = object.policies.as_ref().filter(|said| **said != self.policies) else {
            return Ok(false);
        };
        if role == Role::PolicyAuthor {
            let why = format!(
                "a token of role {role} writes policies and does not change which are bound to the owner; leave \
                 `policies` out"
            );
            return Err(RegisterError::forbidden("PolicyBundle", why).at("policies"));
        }
        self.policies.clone_from(policies);
        Ok(true)
    }

    /// The active bundle stays, if it is the one that is meant.
    pub(super) fn keep_bundle(
        &mut self,
        digest: HexDigest,
        object: &PolicyBundleObject,
        policies_differ: bool,
    ) -> Result<Change, RegisterError> {
        let invalid = |why: String| RegisterError::invalid("PolicyBundle", why).at("digest");
        if !object.files.is_empty() {
            return Err(invalid("has both files and a `digest`; leave one out".to_owned()));
        }
        match self.before.bundle {
            Some(active) if active == digest => {}
            Some(active) => {
                return Err(invalid(format!(
                    "the active bundle is {active}, not {digest}; `keyward policy rollback` goes back to one, files make another active"
                )));
            }
            None => return Err(invalid("no bundle is active; it needs files".to_owned())),
        }
        let action = if policies_differ {
            Action::Updated
        } else {
            Action::Unchanged
        };
        Ok(named("PolicyBundle", digest.to_string(), action, None))
    }

    /// What is known of a firmware whose bytes stay.
    pub(super) fn kept_firmware(&self, object: &FirmwareObject) -> Result<FirmwareInfo, RegisterError> {
        match self.firmware.get(&object.name) {
            Some(old) => Ok(FirmwareInfo {
                labels: object.labels.clone(),
                ..old.clone()
            }),
            None => {
                let why = "is not registered, so that its bytes are needed: say `file`";
                Err(RegisterError::invalid(format!("Firmware {}", object.name), why))
            }
        }
    }
}
