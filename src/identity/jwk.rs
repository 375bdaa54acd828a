//! JSON Web Keys (RFC 7517): from a provider's set to public keys, each with what it is good for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use serde::Deserialize;

use crate::config::JwtAlgorithm;

/// Keys of one set that are looked at.
const MOST: usize = 100;
/// Bits of an RSA key; a longer one is a way to keep the server busy.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// The keys of a provider.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    algorithms: Vec<JwtAlgorithm>,
    public: PKey<Public>,
}

/// A public key, and the algorithms it is good for.
type Good = (PKey<Public>, Vec<JwtAlgorithm>);

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    d: Option<serde::de::IgnoredAny>,
}

impl KeySet {
    /// The keys of a set that verify signatures; those for something else, or of kinds that are not known, are passed
    /// over, as RFC 7517 (section 5) asks.
    ///
    /// # Errors
    /// It is no set, has a private key in it, or no key that verifies.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let set: RawSet = serde_json::from_slice(bytes)
            .map_err(|_| "not a JSON Web Key Set: expected {\"keys\": […]}".to_owned())?;
        if set.keys.len() > MOST {
            return Err(format!(
                "the set has {} keys, at most {MOST} are looked at",
                set.keys.len()
            ));
        }
        let mut keys = Vec::new();
        for raw in set.keys {
            let Ok(raw) = serde_json::from_value::<RawKey>(raw) else {
                continue;
            };
            if raw.kty != "oct" && raw.d.is_some() {
                return Err(
                    "the set has a private key in it: whoever could read it can sign; make a new key and publish its public half only"
                        .to_owned(),
                );
            }
            keys.extend(raw.key());
        }
        if keys.is_empty() {
            return Err(
                "the set has no key that verifies signatures: expected RSA of 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519"
                    .to_owned(),
            );
        }
        Ok(Self { keys })
    }

    /// The key of this id that is good for this algorithm. A token without an id means the only key there is.
    pub(super) fn find(&self, id: Option<&str>, algorithm: JwtAlgorithm) -> Option<&PKey<Public>> {
        let found = match (id, self.keys.as_slice()) {
            (Some(id), keys) => {
                let mut good = keys
                    .iter()
                    .filter(|key| key.id.as_deref() == Some(id) && key.algorithms.contains(&algorithm));
                // Two that could be meant are none.
                good.next().filter(|_| good.next().is_none())
            }
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found
            .filter(|key| key.algorithms.contains(&algorithm))
            .map(|key| &key.public)
    }

    /// Whether there is a key of this id, whatever it is good for.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == id) || (id.is_none() && self.keys.len() == 1)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl RawKey {
    fn key(self) -> Option<Key> {
        let verifies = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies {
            return None;
        }
        let (public, mut algorithms) = self.public().ok().flatten()?;
        if let Some(own) = &self.alg {
            algorithms.retain(|algorithm| algorithm.as_str() == own);
        }
        (!algorithms.is_empty()).then_some(Key {
            id: self.kid,
            algorithms,
            public,
        })
    }

    /// The public key, and the algorithms for its kind; none for kinds that are not known.
    fn public(&self) -> Result<Option<Good>, ErrorStack> {
        use JwtAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        Ok(match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let Some((n, e)) = bytes(&self.n).zip(bytes(&self.e)) else {
                    return Ok(None);
                };
                // Short and odd, as everybody's is: a long one makes verifying slow.
                if e.len() > 4 || e.last().is_none_or(|last| last % 2 == 0) || e == [1] || n.len() > 1025 {
                    return Ok(None);
                }
                let rsa = Rsa::from_public_components(BigNum::from_slice(&n)?, BigNum::from_slice(&e)?)?;
                let key = PKey::from_rsa(rsa)?;
                let fits = RSA_BITS.contains(&key.bits());
                let good = vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];
                fits.then_some((key, good))
            }
            ("EC", Some(curve)) => {
                let (curve, algorithm) = match curve {
                    "P-256" => (Nid::X9_62_PRIME256V1, Es256),
                    "P-384" => (Nid::SECP384R1, Es384),
                    _ => return Ok(None),
                };
                let Some((x, y)) = bytes(&self.x).zip(bytes(&self.y)) else {
                    return Ok(None);
                };
                let group = EcGroup::from_curve_name(curve)?;
                let (x, y) = (BigNum::from_slice(&x)?, BigNum::from_slice(&y)?);
                // Refuses a point that is not on the curve.
                let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y)?;
                Some((PKey::from_ec_key(key)?, vec![algorithm]))
            }
            ("OKP", Some("Ed25519")) => {
                let Some(x) = bytes(&self.x) else { return Ok(None) };
                let key = PKey::public_key_from_raw_bytes(&x, Id::ED25519)?;
                Some((key, vec![EdDsa]))
            }
            _ => None,
        })
    }
}
