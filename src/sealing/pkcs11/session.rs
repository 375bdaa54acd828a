//! One session with a token: opened when it is needed, and anew when it broke.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::super::aead::{NONCE, TAG};
use super::super::key_file::{KeyFileError, read_private};
use super::super::provider::KeyError;
use super::key_id;
use super::module::{Entered, Module};
use crate::domain::sealed::{KeyId, TokenKey};

/// Length of a tag in bits.
const TAG_BITS: u64 = (TAG * 8) as u64;

/// Hash of a PIN that the token refused. It is not tried again: tokens lock themselves after a few.
type Refused = Arc<Mutex<Option<[u8; 32]>>>;

/// Makes calls with a session of its own.
pub(super) struct Worker {
    module: Arc<Module>,
    at: TokenKey,
    open: Option<Open>,
    refused: Refused,
}

struct Open {
    /// The module's start that it is of.
    start: u64,
    session: Session,
    keys: HashMap<KeyId, ObjectHandle>,
}

impl Worker {
    pub(super) fn new(module: Arc<Module>, at: TokenKey, refused: Refused) -> Self {
        Self {
            module,
            at,
            open: None,
            refused,
        }
    }

    /// The ids of the keys.
    pub(super) fn keys(&mut self) -> Result<Vec<KeyId>, KeyError> {
        let ids = |worker: &mut Self, entered: &Entered<'_>| {
            // What was made by another is seen by a session that looks again.
            worker.close(entered);
            let open = worker.opened(entered)?;
            Ok(open.keys.keys().copied().collect())
        };
        self.persistently(Restart::Always, ids)
            .map_err(|failed| failed.error)
    }

    /// Makes a key with this CKA_ID.
    pub(super) fn generate(&mut self, cka_id: &[u8]) -> Result<KeyId, KeyError> {
        let module = self.module.clone();
        let entered = module.enter();
        let slot = self.slot(&entered)?;
        let session = entered
            .calls
            .open_rw_session(slot)
            .map_err(|error| self.failed(&error))?;
        self.login(&session)?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Label(self.at.label.clone().into_bytes()),
            Attribute::Id(cka_id.to_vec()),
        ];
        let made = session.generate_key(&Mechanism::AesKeyGen, &template);
        made.map_err(|error| self.failed(&error))?;
        Ok(key_id(cka_id))
    }

    /// Ciphertext and tag.
    pub(super) fn encrypt(
        &mut self,
        id: KeyId,
        nonce: [u8; NONCE],
        additional: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.again(id, Restart::Always, |session, key| {
            gcm(nonce, additional, |gcm| session.encrypt(gcm, key, value))
        })
        .map_err(|failed| failed.error)
    }

    /// The value of ciphertext and tag.
    pub(super) fn decrypt(
        &mut self,
        id: KeyId,
        nonce: [u8; NONCE],
        additional: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let attempt = |session: &Session, key| {
            gcm(nonce, additional, |gcm| session.decrypt(gcm, key, sealed)).map(Zeroizing::new)
        };
        let first = self.again(id, Restart::UnlessUnclear, attempt);
        let opened = match first {
            // Modules say this of a tag that does not hold as well as of a token that is out of order: once it opens
            // what it has just sealed it is not.
            Err(failed) if failed.is_unclear() && self.works(id) => {
                self.again(id, Restart::UnlessUnclear, attempt)
            }
            done => done,
        };
        opened.map_err(|failed| {
            if failed.is_of_the_value() || failed.is_unclear() && self.works(id) {
                KeyError::Damaged
            } else {
                failed.error
            }
        })
    }

    /// Whether the token opens what it sealed. The nonce seals this and nothing else.
    fn works(&mut self, id: KeyId) -> bool {
        let (nonce, value) = ([0xff; NONCE], [0; 16]);
        let sealed = self.again(id, Restart::Always, |session, key| {
            gcm(nonce, b"", |gcm| session.encrypt(gcm, key, &value))
        });
        let Ok(sealed) = sealed else { return false };
        let opened = self.again(id, Restart::Always, |session, key| {
            gcm(nonce, b"", |gcm| session.decrypt(gcm, key, &sealed))
        });
        opened.is_ok_and(|opened| opened == value)
    }

    /// Does something with a key.
    fn again<T>(
        &mut self,
        id: KeyId,
        restart: Restart,
        work: impl Fn(&Session, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, Failed> {
        self.persistently(restart, |worker, entered| {
            let at = worker.at.clone();
            let open = worker.opened(entered)?;
            let Some(key) = open.keys.get(&id) else {
                let why = format!(
                    "token {} has no key {id} labelled {} any more",
                    at.token, at.label
                );
                return Err(KeyError::Unavailable(why).into());
            };
            work(&open.session, *key).map_err(|error| Failed {
                code: match &error {
                    Error::Pkcs11(code, _) => Some(*code),
                    _ => None,
                },
                error: worker.failed(&error),
            })
        })
    }

    /// Does something; again with a new session where an old one was no good any more, and once more with the module
    /// started anew.
    fn persistently<T>(
        &mut self,
        restart: Restart,
        work: impl Fn(&mut Self, &Entered<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let module = self.module.clone();
        let (mut had, mut restarted) = (self.open.is_some(), false);
        loop {
            let entered = module.enter();
            let failed = match work(self, &entered) {
                Err(failed) if failed.is_of_the_session() => failed,
                done => return done,
            };
            self.close(&entered);
            let start = entered.start;
            drop(entered);
            let unclear = restart == Restart::UnlessUnclear && failed.is_unclear();
            if had {
                had = false;
            } else if restarted || unclear {
                return Err(failed);
            } else {
                module.restart(start)?;
                restarted = true;
            }
        }
    }

    /// Lets go of the session; one of an earlier start is over already.
    fn close(&mut self, entered: &Entered<'_>) {
        if let Some(open) = self.open.take()
            && open.start == entered.start
        {
            // One that broke can't be closed, and need not be.
            let _ = open.session.close();
        }
    }

    fn opened(&mut self, entered: &Entered<'_>) -> Result<&Open, KeyError> {
        let open = match self.open.take() {
            Some(open) if open.start == entered.start => open,
            _ => self.open_session(entered)?,
        };
        Ok(self.open.insert(open))
    }

    fn open_session(&self, entered: &Entered<'_>) -> Result<Open, KeyError> {
        let slot = self.slot(entered)?;
        let failed = |error: Error| self.failed(&error);
        let mechanisms = entered.calls.get_mechanism_list(slot).map_err(failed)?;
        if !mechanisms.contains(&MechanismType::AES_GCM) {
            let why = format!(
                "token {} does not know CKM_AES_GCM, by which keys are wrapped",
                self.at.token
            );
            return Err(KeyError::Unusable(why));
        }
        let session = entered.calls.open_ro_session_no_drop(slot).map_err(failed)?;
        self.login(&session)?;
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(self.at.label.clone().into_bytes()),
        ];
        let mut keys = HashMap::new();
        for handle in session.find_objects(&wanted).map_err(failed)? {
            let attributes = session
                .get_attributes(handle, &[AttributeType::Id])
                .map_err(failed)?;
            let id = attributes.into_iter().find_map(|attribute| match attribute {
                Attribute::Id(id) if !id.is_empty() => Some(id),
                _ => None,
            });
            let Some(id) = id else {
                let why = format!(
                    "a key labelled {} in token {} has no CKA_ID: give it one",
                    self.at.label, self.at.token
                );
                return Err(KeyError::Unusable(why));
            };
            if keys.insert(key_id(&id), handle).is_some() {
                let why = format!(
                    "token {} has two keys labelled {} with one CKA_ID: give each an id of its own",
                    self.at.token, self.at.label
                );
                return Err(KeyError::Unusable(why));
            }
        }
        Ok(Open {
            start: entered.start,
            session,
            keys,
        })
    }

    fn slot(&self, entered: &Entered<'_>) -> Result<Slot, KeyError> {
        let slots = entered
            .calls
            .get_slots_with_initialized_token()
            .map_err(|error| self.failed(&error))?;
        for slot in slots {
            // A token that is being taken out has no label.
            if let Ok(token) = entered.calls.get_token_info(slot)
                && token.label().trim_end() == self.at.token
            {
                return Ok(slot);
            }
        }
        Err(KeyError::Unavailable(format!(
            "{} shows no token labelled {}",
            self.at.module.display(),
            self.at.token
        )))
    }

    /// Logs the process in; with one PIN, once: a token locks itself after a few that are wrong.
    fn login(&self, session: &Session) -> Result<(), KeyError> {
        let file = self.at.pin_file.display();
        let text = read_private(&self.at.pin_file).map_err(|error| {
            KeyError::Unusable(match error {
                KeyFileError::Missing(_) => format!("PIN file {file} is missing: `pin_file` names it"),
                KeyFileError::Open { mode, .. } => {
                    format!("PIN file {file} is open to others (mode {mode:04o}): run `chmod 600 {file}`")
                }
                KeyFileError::Io { source, .. } => format!("PIN file {file}: {source}"),
                _ => format!("PIN file {file} is no text"),
            })
        })?;
        let pin = text.lines().next().unwrap_or_default();
        let refusal = || {
            KeyError::Unusable(format!(
                "token {} refuses the PIN in {file}: correct it; it is not tried again, as tokens lock themselves",
                self.at.token
            ))
        };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = sha256(pin.as_bytes());
        if *refused == Some(hash) {
            return Err(refusal());
        }
        match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                *refused = None;
                Ok(())
            }
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinLocked,
                Function::Login,
            )) => {
                *refused = Some(hash);
                Err(refusal())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &Error) -> KeyError {
        KeyError::Unavailable(format!("token {}: {error}", self.at.token))
    }
}

/// When the module is started anew for a call that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restart {
    Always,
    /// Not where the value may be to blame.
    UnlessUnclear,
}

/// How a call failed.
struct Failed {
    error: KeyError,
    code: Option<RvError>,
}

impl From<KeyError> for Failed {
    fn from(error: KeyError) -> Self {
        Self { error, code: None }
    }
}

impl Failed {
    /// Whether another session may do better: not where the ciphertext is to blame, or the configuration.
    fn is_of_the_session(&self) -> bool {
        !self.is_of_the_value() && matches!(self.error, KeyError::Unavailable(_))
    }

    fn is_of_the_value(&self) -> bool {
        matches!(
            self.code,
            Some(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange)
        )
    }

    /// Whether it may be a tag that does not hold; to be told from a token that is out of order by trying it.
    fn is_unclear(&self) -> bool {
        matches!(
            self.code,
            Some(RvError::GeneralError | RvError::FunctionFailed | RvError::DeviceError)
        )
    }
}

fn gcm<T>(
    mut nonce: [u8; NONCE],
    additional: &[u8],
    work: impl FnOnce(&Mechanism<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let parameters = GcmParams::new(&mut nonce, additional, TAG_BITS.into())?;
    work(&Mechanism::AesGcm(parameters))
}
