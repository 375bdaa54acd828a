//! Which bundle becomes the active one, by whom and why: pushed, applied or gone back to.
//!
//! Whichever way it comes, a bundle of an owner with signing keys must be signed by one of those that are
//! registered at that moment; one that was active before is no exception.

use std::collections::BTreeMap;

use super::demand::{Demand, Subject};
use super::draft::Draft;
use super::{RegisterError, Registered};
use crate::domain::etag::Precondition;
use crate::domain::object::{Action, Change, PolicyBundleObject, SigningKeyObject};
use crate::domain::revision::{Activation, MAX_MESSAGE, MAX_SOURCE, Revision, SigningKey, Which};
use crate::domain::state::Kind;
use crate::domain::token::Caller;
use crate::domain::{Base64Bytes, HexDigest, Time};
use crate::policy::opa::{self, KeyError, VerificationKey};
use crate::policy::{Bundle, Diagnostic};
use crate::release::Service;

/// How a bundle comes to be active, but what it is.
#[derive(Clone, Copy)]
pub(super) struct Activating<'a> {
    pub(super) action: Activation,
    pub(super) caller: &'a Caller,
    pub(super) message: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) of: Option<u64>,
    pub(super) now: Time,
}

/// What is said with a push or a rollback.
#[derive(Clone, Copy, Default)]
pub struct Said<'a> {
    /// Why, in the caller's words.
    pub message: Option<&'a str>,
    /// Where the bundle is from.
    pub source: Option<&'a str>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Said<'_> {
    /// Refuses what is too long to be kept.
    fn check(&self) -> Result<(), RegisterError> {
        for (member, said, longest) in [
            ("message", self.message, MAX_MESSAGE),
            ("source", self.source, MAX_SOURCE),
        ] {
            if let Some(said) = said.filter(|said| said.trim().is_empty() || said.len() > longest) {
                let why = match said.trim().is_empty() {
                    true => format!("`{member}` is blank; say something, or leave it out"),
                    false => format!("`{member}` has {} bytes; at most {longest} are kept", said.len()),
                };
                return Err(RegisterError::invalid("PolicyBundle", why));
            }
        }
        Ok(())
    }
}

impl Service {
    /// Makes a bundle the active one, with whatever policies it binds; a bundle that is active already stays.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was written.
    pub fn push(
        &self,
        caller: &Caller,
        bundle: &PolicyBundleObject,
        said: Said<'_>,
    ) -> Result<Registered, RegisterError> {
        said.check()?;
        let activating = self.activating(Activation::Push, caller, said, None);
        self.register(caller, said.dry_run, None, |draft| {
            Ok(vec![draft.put_bundle(bundle, &activating)?])
        })
    }

    /// Makes the bundle of an earlier revision the active one again. It is checked like any other.
    ///
    /// # Errors
    /// See [`RegisterError`]; [`RegisterError::NotFound`] when there is no such revision.
    pub fn roll_back(&self, caller: &Caller, to: Which, said: Said<'_>) -> Result<Registered, RegisterError> {
        said.check()?;
        let stored = self.store().revision(&caller.owner, to)?;
        let stored = stored.ok_or(RegisterError::NotFound)?;
        let Revision { number, digest, .. } = stored.revision;
        let archive = self.store().bundle(&caller.owner, digest)?;
        let damaged =
            || RegisterError::invalid("PolicyBundle", format!("the stored bundle {digest} is damaged"));
        let bundle = Bundle::from_archive(&archive.ok_or_else(damaged)?).map_err(|_| damaged())?;
        if HexDigest::from(bundle.digest()) != digest {
            return Err(damaged());
        }
        let file = |(path, bytes): (&str, &[u8])| (path.to_owned(), Base64Bytes(bytes.to_vec()));
        let mut files: BTreeMap<_, _> = bundle.files().map(file).collect();
        if let Some(signatures) = stored.signatures {
            files.insert(opa::SIGNATURES.to_owned(), Base64Bytes(signatures));
        }
        let object = PolicyBundleObject {
            files,
            digest: None,
            policies: None,
        };
        let said = Said {
            source: stored.revision.source.as_deref(),
            ..said
        };
        let activating = self.activating(Activation::Rollback, caller, said, Some(number));
        self.register(caller, said.dry_run, None, |draft| {
            Ok(vec![draft.put_bundle(&object, &activating)?])
        })
    }

    /// Registers a key that signs bundles. From then on, only what is signed becomes active.
    ///
    /// # Errors
    /// See [`RegisterError`]; [`RegisterError::Conflict`] when another key has this name.
    pub fn put_signing_key(
        &self,
        caller: &Caller,
        object: &SigningKeyObject,
        precondition: &Precondition,
    ) -> Result<Registered, RegisterError> {
        let on = Subject::Object(Kind::SigningKey, object.name.to_string());
        self.register(caller, false, Some(&Demand { on, precondition }), |draft| {
            Ok(vec![draft.put_signing_key(object)?])
        })
    }

    /// Removes a key that signs bundles. The only one is removed only with `allow_unsigned`: after that, bundles need
    /// no signature.
    ///
    /// # Errors
    /// See [`RegisterError`]; [`RegisterError::Conflict`] for the only one.
    pub fn remove_signing_key(
        &self,
        caller: &Caller,
        name: &str,
        allow_unsigned: bool,
        precondition: &Precondition,
    ) -> Result<(), RegisterError> {
        let demand = Demand::of_name(Kind::SigningKey, name, precondition)?;
        self.register(caller, false, Some(&demand), |draft| {
            draft.remove_signing_key(name, allow_unsigned)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    pub(super) fn activating<'a>(
        &self,
        action: Activation,
        caller: &'a Caller,
        said: Said<'a>,
        of: Option<u64>,
    ) -> Activating<'a> {
        Activating {
            action,
            caller,
            message: said.message,
            source: said.source,
            of,
            now: self.parts.clock.now(),
        }
    }
}

impl Draft<'_> {
    /// The registered key that signed the bundle; none where the owner has no keys.
    pub(super) fn signed_by(
        &self,
        bundle: &Bundle,
        signatures: Option<&[u8]>,
    ) -> Result<Option<String>, RegisterError> {
        if self.signing_keys.is_empty() {
            return Ok(None);
        }
        let refused = |diagnostic| RegisterError::Bundle(vec![diagnostic]);
        let keys: BTreeMap<_, _> = self
            .signing_keys
            .values()
            .map(|key| (key.name.to_string(), &key.key))
            .collect();
        let Some(signatures) = signatures else {
            let names: Vec<_> = keys.into_keys().collect();
            return Err(refused(
                Diagnostic::on_file(
                    opa::SIGNATURES,
                    "the bundle is not signed, but the owner has signing keys",
                )
                .with_hint(format!(
                    "`keyward policy bundle --signing-key` signs it; registered are: {}",
                    names.join(", ")
                )),
            ));
        };
        let now = self.service.parts.clock.now().millis().div_euclid(1000);
        opa::verify(bundle, signatures, &keys, now)
            .map(Some)
            .map_err(refused)
    }

    /// Whether the active revision is signed by no key that is registered now, while this signature is: then the
    /// same bundle becomes a revision of its own, or it could not be gone back to.
    pub(super) fn outlived(&self, key: Option<&str>) -> Result<bool, RegisterError> {
        if key.is_none() || self.before.revision == 0 {
            return Ok(false);
        }
        let active = self
            .service
            .store()
            .revision(&self.before.owner, Which::Number(self.before.revision))?;
        let by = active.and_then(|active| active.revision.key);
        Ok(by.is_none_or(|by| !self.signing_keys.keys().any(|name| name.as_str() == by)))
    }

    /// The revision that a bundle will be.
    pub(super) fn revision(
        &self,
        bundle: &Bundle,
        activating: &Activating<'_>,
        key: Option<String>,
    ) -> Revision {
        let manifest = bundle.manifest();
        let said = manifest
            .metadata
            .as_ref()
            .and_then(|said| said.get("vcs_revision"));
        let source = activating
            .source
            .or_else(|| said.and_then(serde_json::Value::as_str));
        let kept = |text: &str| Some(shortened(text)).filter(|text| !text.is_empty());
        Revision {
            number: self.before.revision + 1,
            digest: HexDigest::from(bundle.digest()),
            activated: activating.now,
            action: activating.action,
            by: Some(activating.caller.by()),
            message: activating.message.map(str::to_owned),
            source: source.and_then(kept),
            revision: kept(&manifest.revision),
            key,
            of: activating.of,
        }
    }

    pub(super) fn put_signing_key(&mut self, object: &SigningKeyObject) -> Result<Change, RegisterError> {
        let SigningKeyObject {
            name,
            public_key,
            scope,
            ..
        } = object;
        let label = format!("SigningKey {name}");
        let invalid = |why: KeyError| RegisterError::invalid(&label, why);
        let algorithm = match object.algorithm {
            Some(algorithm) => algorithm,
            None => VerificationKey::usual_algorithm(public_key).map_err(|e| invalid(e).at("public_key"))?,
        };
        if scope.as_ref().is_some_and(|scope| scope.len() > MAX_SOURCE) {
            let why = format!("`scope` is longer than {MAX_SOURCE} bytes");
            return Err(RegisterError::invalid(&label, why).at("scope"));
        }
        let key = VerificationKey::new(public_key, algorithm, scope.clone())
            .map_err(|e| invalid(e).at("public_key"))?;
        let known = self.signing_keys.get(name);
        let registered = known.map(|known| known.registered);
        let registered = registered.unwrap_or_else(|| self.service.parts.clock.now());
        let key = SigningKey {
            name: name.clone(),
            key,
            registered,
            labels: object.labels.clone(),
        };
        let action = match known {
            None => Action::Created,
            Some(known) if *known == key => Action::Unchanged,
            Some(known) if known.key == key.key => Action::Updated,
            Some(_) => {
                return Err(RegisterError::conflict(
                    label,
                    format!(
                        "the signing key {name} exists and differs; give the new one a name of its own, and remove this one when nothing is signed with it any more"
                    ),
                ));
            }
        };
        let change = super::draft::change("SigningKey", &key.name, action, None);
        if action == Action::Created && self.before.bundle.is_some() && self.signing_keys.is_empty() {
            let active =
                "the active bundle stays so, signed or not; what becomes active from now on must be signed";
            self.warnings.push(active.to_owned());
        }
        self.signing_keys.insert(key.name.clone(), key);
        Ok(change)
    }
}

/// What a manifest says, as far as it is kept.
fn shortened(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_SOURCE))
        .unwrap_or(text)
        .to_owned()
}
