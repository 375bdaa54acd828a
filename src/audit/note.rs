//! Signed notes, as <https://c2sp.org/signed-note> specifies them: text, a blank line, signature lines.
//!
//! A signature line is an em dash, a space, the key's name, a space, and the base64 of key ID and signature. What is
//! signed is the text with its last newline. Signatures of unknown keys are kept and ignored: that is how keys are
//! changed and how witnesses sign too. Those of a known key must all verify, or the note counts for nothing.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{KeyError, KeyName, SignerKey, VerifierKey};

/// The longest note that is read, in bytes. The specification asks for room for 16 signatures of up to 5 kB.
pub const MAX_NOTE: usize = 128 * 1024;

/// The most signatures that are read.
pub const MAX_SIGNATURES: usize = 64;

/// Text with signatures. Says nothing until [`Note::verify`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: KeyName,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a text is no signed note, or not one of the signer that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// It is longer than any note that is read.
    #[error("a signed note has at most {MAX_NOTE} bytes, this one has {0}")]
    Long(usize),
    /// It has control characters.
    #[error("a signed note has no control characters but newlines")]
    Control,
    /// There is no blank line, or nothing or an unfinished line behind it.
    #[error("a signed note is text, a blank line and signature lines, each ending with a newline")]
    Layout,
    /// A line below the blank line is no signature.
    #[error("line {0} below the blank line is not a signature: expected `— NAME BASE64`")]
    Signature(usize),
    /// There are more signatures than are read.
    #[error("a signed note has at most {MAX_SIGNATURES} signatures here")]
    Signatures,
    /// The signer that was asked for has not signed it.
    #[error("not signed by {wanted}; it is signed by {signers}")]
    NotSigned {
        /// The key that was asked for.
        wanted: String,
        /// Who signed, as far as the note says.
        signers: String,
    },
    /// A signature in the signer's name does not verify.
    #[error(
        "the signature of {0} does not verify: the text was changed, or the key is not the one that signed it"
    )]
    Forged(String),
    /// It could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Note {
    /// A signed note, not verified yet.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Long(note.len()));
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Control);
        }
        // The last blank line: the text may have some of its own.
        let (body, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Layout)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Layout)?;
        if lines.split('\n').count() > MAX_SIGNATURES {
            return Err(NoteError::Signatures);
        }
        let signatures = lines.split('\n').enumerate();
        let signatures = signatures
            .map(|(at, line)| Signature::parse(line).ok_or(NoteError::Signature(at + 1)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: format!("{body}\n"),
            signatures,
        })
    }

    /// Signs a text, which ends with a newline.
    ///
    /// # Errors
    /// When it does not, has control characters, or can't be signed.
    pub fn sign(text: String, key: &SignerKey) -> Result<Self, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::Layout);
        }
        let signature = Signature {
            name: key.verifier().name().parse()?,
            id: key.verifier().id(),
            bytes: key.sign(&text)?.to_vec(),
        };
        let note = Self {
            text,
            signatures: vec![signature],
        };
        // What leaves is what would be read.
        Self::parse(&note.to_string())?;
        Ok(note)
    }

    /// Adds another key's signature, after those there are.
    ///
    /// # Errors
    /// When the note is full or can't be signed.
    pub fn add_signature(&mut self, key: &SignerKey) -> Result<(), NoteError> {
        let mut signed = Self::sign(self.text.clone(), key)?;
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::Signatures);
        }
        self.signatures.append(&mut signed.signatures);
        Ok(())
    }

    /// The text, given that this signer signed it.
    ///
    /// # Errors
    /// When the signer did not, or any signature in the signer's name is false.
    pub fn verify(&self, key: &VerifierKey) -> Result<&str, NoteError> {
        let own = |s: &&Signature| s.name.as_str() == key.name() && s.id == key.id();
        let mut own = self.signatures.iter().filter(own).peekable();
        if own.peek().is_none() {
            let signers: Vec<_> = self.signatures.iter().map(Signature::signer).collect();
            return Err(NoteError::NotSigned {
                wanted: format!("{}+{}", key.name(), hex::encode(key.id())),
                signers: signers.join(", "),
            });
        }
        for signature in own {
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(NoteError::Forged(signature.signer()));
            }
        }
        Ok(&self.text)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let bytes = [signature.id.as_slice(), &signature.bytes].concat();
            writeln!(f, "— {} {}", signature.name.as_str(), STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        let decoded = STANDARD.decode(encoded).ok()?;
        let (id, bytes) = decoded.split_first_chunk()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self {
            name: name.parse().ok()?,
            id: *id,
            bytes: bytes.to_vec(),
        })
    }

    fn signer(&self) -> String {
        format!("{}+{}", self.name.as_str(), hex::encode(self.id))
    }
}
