//! The launch session: known answers, layouts, and the `sev` crate as an oracle.

use std::sync::atomic::{AtomicU8, Ordering};

use keyward::sev::session::{derive, start, wrap};
use keyward::sev::{
    Algorithm, Certificate, LaunchKeys, Random, RandomError, SessionBlob, SessionError, SevPolicy,
    UnwrapError, Usage,
};

/// Bytes that count up, so that each draw differs and a run can be repeated.
pub(crate) struct Counting(AtomicU8);

impl Counting {
    pub(crate) fn from(first: u8) -> Self {
        Self(AtomicU8::new(first))
    }
}

impl Random for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.iter_mut()
            .for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

/// A source that has only one byte to give.
struct Constant(u8);

impl Random for Constant {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.fill(self.0);
        Ok(())
    }
}

struct Broken;

impl Random for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError("unplugged".into()))
    }
}

fn hex(text: &str) -> Vec<u8> {
    ::hex::decode(text).unwrap()
}

#[test]
fn known_answer_of_a_session_of_zeros() {
    let keys = LaunchKeys::from_bytes(&[0; 32]);
    let wrapping = derive(&[0; 16], &[0; 16]);

    let blob = wrap(&keys, &wrapping, &[0; 16], &[0; 16], SevPolicy(0)).unwrap();

    assert_eq!(
        blob.wrap_tk[..],
        hex("2137bc7f9bb8bd7c3e55a576a15d3454b3856b8ba27afadf46dcfee9f02c02c4")
    );
    assert_eq!(
        blob.wrap_mac[..],
        hex("3176c0752738bd9d5e86689534020f528c088f16238826b000b327dee6aeed7d")
    );
    assert_eq!(
        blob.policy_mac[..],
        hex("aa7855e13839dd767cd5da7c1ff5036540c9264b7a803029315e55375287b4af")
    );
}

#[test]
fn a_session_is_128_bytes_in_the_order_of_the_specification() {
    let blob = SessionBlob {
        nonce: [1; 16],
        wrap_tk: [2; 32],
        wrap_iv: [3; 16],
        wrap_mac: [4; 32],
        policy_mac: [5; 32],
    };

    let bytes = blob.to_bytes();

    let runs: Vec<(u8, usize)> = bytes
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len()))
        .collect();
    assert_eq!(runs, [(1, 16), (2, 32), (3, 16), (4, 32), (5, 32)]);
    assert_eq!(SessionBlob::parse(&bytes), Some(blob));
    for length in (0..256).filter(|length| *length != 128) {
        assert_eq!(SessionBlob::parse(&vec![0; length]), None, "{length} bytes");
    }
}

#[test]
fn launch_keys_are_tek_then_tik() {
    let bytes: [u8; 32] = std::array::from_fn(|index| index as u8);
    assert_eq!(*LaunchKeys::from_bytes(&bytes).to_bytes(), bytes);
}

#[test]
fn wrapped_keys_unwrap_only_with_the_same_secret_nonce_and_policy() {
    let bytes: [u8; 32] = std::array::from_fn(|index| index as u8);
    let keys = LaunchKeys::from_bytes(&bytes);
    let wrapping = derive(&[7; 48], &[8; 16]);
    let blob = wrap(&keys, &wrapping, &[8; 16], &[9; 16], SevPolicy(7)).unwrap();

    assert_eq!(
        *blob.unwrap(&wrapping, SevPolicy(7)).ok().unwrap().to_bytes(),
        bytes
    );
    assert!(matches!(
        blob.unwrap(&wrapping, SevPolicy(5)).err(),
        Some(UnwrapError::PolicyMac)
    ));
    for other in [derive(&[6; 48], &[8; 16]), derive(&[7; 48], &[0; 16])] {
        assert!(matches!(
            blob.unwrap(&other, SevPolicy(7)).err(),
            Some(UnwrapError::WrapMac)
        ));
    }
}

#[test]
fn an_owner_certificate_is_an_unsigned_pdh_on_p384() {
    let pdh = pdh();

    let session = start(&pdh, SevPolicy(3), &Counting::from(1)).ok().unwrap();

    let certificate = Certificate::parse(session.owner_certificate.as_bytes()).unwrap();
    assert_eq!(certificate.usage(), Usage::Pdh);
    assert_eq!(certificate.algorithm(), Algorithm::EcdhSha256);
    assert!(certificate.is_p384() && !certificate.is_signed());
    let bytes = certificate.as_bytes();
    assert_eq!(bytes[..20], hex("0100000000000000031000000300000002000000"));
    assert_eq!(bytes[1044..1052], hex("0010000000000000"));
    assert_eq!(bytes[1564..1572], hex("0010000000000000"));
    assert!(
        bytes[1052..1564]
            .iter()
            .chain(&bytes[1572..])
            .all(|byte| *byte == 0)
    );
}

#[test]
fn random_bytes_are_drawn_in_the_documented_order() {
    let session = start(&pdh(), SevPolicy(3), &Counting::from(1)).ok().unwrap();

    let blob = SessionBlob::parse(&session.blob).unwrap();
    let counted =
        |from: usize, length: usize| (from..from + length).map(|byte| byte as u8).collect::<Vec<_>>();
    assert_eq!(session.keys.to_bytes()[..], counted(49, 32));
    assert_eq!(blob.nonce[..], counted(81, 16));
    assert_eq!(blob.wrap_iv[..], counted(97, 16));
}

#[test]
fn a_source_that_gives_no_usable_scalar_is_refused() {
    for byte in [0x00, 0xff] {
        let error = start(&pdh(), SevPolicy(3), &Constant(byte)).err();
        assert!(matches!(error, Some(SessionError::Random(_))), "{byte:#x}");
    }
    assert!(matches!(
        start(&pdh(), SevPolicy(3), &Broken).err(),
        Some(SessionError::Random(_))
    ));
}

/// Some PDH: an owner certificate is one.
pub(crate) fn pdh() -> keyward::sev::Certificate {
    use openssl::bn::{BigNum, BigNumContext};
    use openssl::ec::{EcGroup, EcKey};
    let group = EcGroup::from_curve_name(openssl::nid::Nid::SECP384R1).unwrap();
    let key = EcKey::generate(&group).unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    key.public_key()
        .affine_coordinates(&group, &mut x, &mut y, &mut context)
        .unwrap();
    let mut bytes = vec![0; 2084];
    for (offset, word) in [
        (0, 1u32),
        (8, 0x1003),
        (12, 3),
        (16, 2),
        (1044, 0x1000),
        (1564, 0x1000),
    ] {
        bytes[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }
    for (offset, number) in [(20, x), (92, y)] {
        let mut number = number.to_vec_padded(72).unwrap();
        number.reverse();
        bytes[offset..offset + 72].copy_from_slice(&number);
    }
    keyward::sev::Certificate::parse(&bytes).unwrap()
}
