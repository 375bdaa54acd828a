//! Key-encryption keys in a PKCS#11 token, which they never leave: AES-256-GCM with the place as additional data.
//!
//! A module answers when it likes, so its calls are made by a few threads, each with a session of its own (`session`);
//! whoever waits for one does so for a bounded time. A session that broke, or was logged out, is opened anew; where that
//! does not help, the module is started anew (`module`), as some notice only then that a token came back.

mod module;
mod session;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::aead::{NONCE, TAG};
use super::provider::{DataKey, KeyError, KeyProvider, Wrapped};
use crate::domain::sealed::{KeyId, TokenKey};
use crate::sev::Random;
use session::Worker;

/// Sessions, and so calls at once.
const SESSIONS: usize = 4;
/// Calls that may wait for a session.
const QUEUE: usize = 256;
/// How long a call may take with its wait.
const PATIENCE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A token, with the threads that call it.
struct Token {
    jobs: SyncSender<Job>,
}

/// A key in a token.
pub(super) struct TokenProvider {
    id: KeyId,
    token: Arc<Token>,
}

/// The keys with the label that the location names; none where the token has none.
///
/// # Errors
/// When the module, the token or the PIN can't be used, or the token does not answer.
pub(super) fn keys(at: &TokenKey) -> Result<Vec<Arc<TokenProvider>>, KeyError> {
    let token = token(at)?;
    let mut ids = token.call(|worker| worker.keys())?;
    ids.sort_unstable();
    let keys = ids.into_iter().map(|id| {
        Arc::new(TokenProvider {
            id,
            token: token.clone(),
        })
    });
    Ok(keys.collect())
}

/// Makes a new key in the token, under the label that the location names.
///
/// # Errors
/// As `keys`, and when the token makes no keys.
pub fn generate(at: &TokenKey, random: &dyn Random) -> Result<KeyId, KeyError> {
    let mut id = [0; 16];
    random.fill(&mut id)?;
    token(at)?.call(move |worker| worker.generate(&id))
}

/// The id of a key: the first bytes of a hash of its CKA_ID. The key itself can't be asked for anything that tells it
/// from others without using it for more than it is there for.
fn key_id(cka_id: &[u8]) -> KeyId {
    let mut id = [0; 8];
    let digest = sha256(&[b"keyward/key-id/pkcs11/v1", cka_id].concat());
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    KeyId(id)
}

/// Tokens that were opened.
type Tokens = Mutex<Vec<(TokenKey, Arc<Token>)>>;

/// One for each token, as long as the process lives: logins are the process's, and modules don't like to be unloaded.
fn token(at: &TokenKey) -> Result<Arc<Token>, KeyError> {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    let mut tokens = TOKENS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((_, token)) = tokens.iter().find(|(known, _)| known == at) {
        return Ok(token.clone());
    }
    let token = Arc::new(Token::start(at)?);
    tokens.push((at.clone(), token.clone()));
    Ok(token)
}

impl Token {
    fn start(at: &TokenKey) -> Result<Self, KeyError> {
        let module = module::load(&at.module)?;
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let refused = Arc::default();
        for _ in 0..SESSIONS {
            let mut worker = Worker::new(module.clone(), at.clone(), Arc::clone(&refused));
            let queue = queue.clone();
            std::thread::Builder::new()
                .name("pkcs11".to_owned())
                .spawn(move || {
                    while let Some(job) = next(&queue) {
                        job(&mut worker);
                    }
                })
                .map_err(|error| KeyError::Unavailable(error.to_string()))?;
        }
        Ok(Self { jobs })
    }

    /// Has a session do something, and waits a bounded time for it.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let (sender, receiver) = sync_channel(1);
        let job: Job = Box::new(move |worker| {
            // Whoever asked may have gone.
            let _ = sender.send(work(worker));
        });
        let busy = || KeyError::Unavailable("too many calls wait for the token".to_owned());
        self.jobs.try_send(job).map_err(|_| busy())?;
        receiver.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let why = match error {
                RecvTimeoutError::Timeout => "the token took too long",
                RecvTimeoutError::Disconnected => "the token's module failed",
            };
            Err(KeyError::Unavailable(why.to_owned()))
        })
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl KeyProvider for TokenProvider {
    fn id(&self) -> KeyId {
        self.id
    }

    fn wrap(&self, key: &DataKey, additional: &[u8], random: &dyn Random) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE];
        random.fill(&mut nonce)?;
        let (id, key, additional) = (self.id, key.clone(), additional.to_vec());
        self.token.call(move |worker| {
            let ciphertext = worker.encrypt(id, nonce, &additional, key.as_slice())?;
            Ok([nonce.as_slice(), &ciphertext].concat())
        })
    }

    fn unwrap(&self, wrapped: Wrapped<'_>) -> Result<DataKey, KeyError> {
        self.unwrap_all(&[wrapped])
            .pop()
            .unwrap_or(Err(KeyError::Damaged))
    }

    fn unwrap_all(&self, wrapped: &[Wrapped<'_>]) -> Vec<Result<DataKey, KeyError>> {
        let owned = wrapped
            .iter()
            .map(|one| (one.wrapped.to_vec(), one.additional.to_vec()));
        let (id, owned): (_, Vec<_>) = (self.id, owned.collect());
        let unwrapped = self.token.call(move |worker| {
            let one = |(wrapped, additional): &(Vec<u8>, Vec<u8>)| one(worker, id, wrapped, additional);
            Ok(owned.iter().map(one).collect::<Vec<_>>())
        });
        // All of them fail where the call does, each with the same words.
        unwrapped.unwrap_or_else(|error| {
            let why = error.to_string();
            let each = wrapped.iter().map(|_| match &error {
                KeyError::Unusable(why) => KeyError::Unusable(why.clone()),
                KeyError::Unavailable(why) => KeyError::Unavailable(why.clone()),
                _ => KeyError::Unavailable(why.clone()),
            });
            each.map(Err).collect()
        })
    }
}

fn one(worker: &mut Worker, id: KeyId, wrapped: &[u8], additional: &[u8]) -> Result<DataKey, KeyError> {
    let (nonce, ciphertext) = wrapped.split_first_chunk::<NONCE>().ok_or(KeyError::Damaged)?;
    if ciphertext.len() != 32 + TAG {
        return Err(KeyError::Damaged);
    }
    let key = worker.decrypt(id, *nonce, additional, ciphertext)?;
    let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| KeyError::Damaged)?;
    Ok(Zeroizing::new(key))
}
