//! A token's module: loaded once, and started anew where its token went away.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::super::provider::KeyError;

/// A loaded module. Calls go through [`Module::enter`], as none may be under way when it is started anew.
pub(super) struct Module {
    path: PathBuf,
    calls: Pkcs11,
    /// How often it was started. Sessions are of one start.
    started: RwLock<u64>,
}

/// A call under way.
pub(super) struct Entered<'a> {
    pub(super) calls: &'a Pkcs11,
    /// The start that it is made under.
    pub(super) start: u64,
    _started: RwLockReadGuard<'a, u64>,
}

/// The module of this path: one for the process, which is what modules count in.
pub(super) fn load(path: &Path) -> Result<Arc<Module>, KeyError> {
    static MODULES: OnceLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = OnceLock::new();
    let modules = MODULES.get_or_init(Mutex::default);
    let mut modules = modules.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Module {
        path: path.to_owned(),
        calls: Pkcs11::new(path).map_err(|error| unusable(path, &error))?,
        started: RwLock::default(),
    };
    module.start()?;
    let module = Arc::new(module);
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn unusable(path: &Path, error: &Error) -> KeyError {
    let path = path.display();
    KeyError::Unusable(format!(
        "PKCS#11 module {path}: {error}: name the token's own as `module`"
    ))
}

impl Module {
    pub(super) fn enter(&self) -> Entered<'_> {
        let started = self.started.read().unwrap_or_else(PoisonError::into_inner);
        Entered {
            calls: &self.calls,
            start: *started,
            _started: started,
        }
    }

    /// Starts it anew, unless somebody did since `seen`. Every session is over then.
    pub(super) fn restart(&self, seen: u64) -> Result<(), KeyError> {
        let mut started = self.started.write().unwrap_or_else(PoisonError::into_inner);
        if *started == seen {
            // One that is not started can't be ended, and that is all right.
            let _ = self.calls.clone().finalize();
            *started += 1;
            self.start()?;
        }
        Ok(())
    }

    fn start(&self) -> Result<(), KeyError> {
        match self
            .calls
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            Err(error) => Err(unusable(&self.path, &error)),
        }
    }
}
