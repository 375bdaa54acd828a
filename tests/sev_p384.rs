//! P-384 by AWS-LC: the same keys and the same secret as OpenSSL makes of the same scalar.

use std::sync::Mutex;

use keyward::sev::p384::EphemeralKey;
use keyward::sev::session::{derive, start};
use keyward::sev::{Certificate, Random, RandomError, SessionBlob, SevPolicy};
use openssl::bn::{BigNum, BigNumContext};
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};

use crate::support::platform;

/// The order of P-384's group (SEC 2, 2.5.1).
const ORDER: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

/// Gives these bytes, and then no others.
struct Given(Mutex<Vec<u8>>);

impl Given {
    fn new(parts: &[&[u8]]) -> Self {
        Self(Mutex::new(parts.concat()))
    }
}

impl Random for Given {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        let mut left = self.0.lock().unwrap();
        if left.len() < out.len() {
            return Err(RandomError("all was given".to_owned()));
        }
        let rest = left.split_off(out.len());
        out.copy_from_slice(&left);
        *left = rest;
        Ok(())
    }
}

fn scalars() -> Vec<[u8; 48]> {
    let order = BigNum::from_hex_str(ORDER).unwrap();
    let mut last = order.to_owned().unwrap();
    last.sub_word(1).unwrap();
    let mut scalars = vec![
        [1; 48],
        [0x7f; 48],
        last.to_vec().try_into().unwrap(),
        BigNum::from_u32(1)
            .unwrap()
            .to_vec_padded(48)
            .unwrap()
            .try_into()
            .unwrap(),
    ];
    for seed in 0..16_u8 {
        let halves = [openssl::sha::sha256(&[seed, 0]), openssl::sha::sha256(&[seed, 1])].concat();
        scalars.push(halves[..48].try_into().unwrap());
    }
    scalars
}

fn by_openssl(scalar: &[u8]) -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
    let scalar = BigNum::from_slice(scalar).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let mut point = EcPoint::new(&group).unwrap();
    point.mul_generator2(&group, &scalar, &mut context).unwrap();
    PKey::from_ec_key(EcKey::from_private_components(&group, &scalar, &point).unwrap()).unwrap()
}

#[test]
fn a_scalar_makes_the_key_and_the_secret_that_openssl_makes_of_it() {
    let platform = platform();
    let pdh = Certificate::parse(&platform.pdh()).unwrap();
    for scalar in scalars() {
        let ours = EphemeralKey::fresh(&Given::new(&[&scalar])).unwrap();
        let theirs = by_openssl(&scalar);
        let mut deriver = Deriver::new(&theirs).unwrap();
        deriver.set_peer(pdh.public_key()).unwrap();
        let z = deriver.derive_to_vec().unwrap();
        assert_eq!(ours.agree(&pdh).unwrap().as_slice(), z, "{}", hex::encode(scalar));

        // The certificate that leaves holds the same point, and the session is wrapped with the same secret.
        let (keys, nonce, iv) = ([3; 32], [4; 16], [5; 16]);
        let session = start(&pdh, SevPolicy(3), &Given::new(&[&scalar, &keys, &nonce, &iv])).unwrap();
        let shown = Certificate::parse(session.owner_certificate.as_bytes()).unwrap();
        assert!(shown.public_key().public_eq(&theirs));
        let blob = SessionBlob::parse(&session.blob).unwrap();
        let unwrapped = blob.unwrap(&derive(&z, &nonce), SevPolicy(3)).unwrap();
        assert_eq!(unwrapped.to_bytes().as_slice(), keys);
        assert!(
            platform
                .launch_start(3, session.owner_certificate.as_bytes(), &session.blob)
                .is_ok()
        );
    }
}

#[test]
fn scalars_outside_of_the_group_are_drawn_again() {
    let pdh = Certificate::parse(&platform().pdh()).unwrap();
    let order = hex::decode(ORDER).unwrap();
    for refused in [vec![0; 48], order, vec![0xff; 48]] {
        let drawn = EphemeralKey::fresh(&Given::new(&[&refused, &[9; 48]])).unwrap();
        let direct = EphemeralKey::fresh(&Given::new(&[&[9; 48]])).unwrap();
        assert_eq!(drawn.agree(&pdh).unwrap(), direct.agree(&pdh).unwrap());
        let twice = EphemeralKey::fresh(&Given::new(&[&refused, &refused])).err();
        assert_eq!(twice, Some(RandomError("the source repeats itself".to_owned())));
    }
}
