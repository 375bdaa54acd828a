//! Chains with keys that AMD's platforms do not have but the format allows: RSA owners, P-256, SHA-384.

use keyward::domain::Base64Bytes;
use keyward::sev::{Certificate, ChainError, PresentedChain, Usage};
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::json;

use crate::support::{App, ca};

/// A key with its usage and algorithm.
struct Key {
    usage: u32,
    algorithm: u32,
    key: PKey<Private>,
}

impl Key {
    fn rsa(usage: u32, algorithm: u32, bits: u32) -> Self {
        Self {
            usage,
            algorithm,
            key: PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap(),
        }
    }

    fn ec(usage: u32, algorithm: u32, nid: Nid) -> Self {
        let group = EcGroup::from_curve_name(nid).unwrap();
        Self {
            usage,
            algorithm,
            key: PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap(),
        }
    }

    fn digest(&self) -> MessageDigest {
        if self.algorithm > 0x100 {
            MessageDigest::sha384()
        } else {
            MessageDigest::sha256()
        }
    }

    fn area(&self) -> Vec<u8> {
        let mut area = Vec::new();
        if self.key.id() == Id::RSA {
            let rsa = self.key.rsa().unwrap();
            area.extend(self.key.bits().to_le_bytes());
            area.extend(little_endian(rsa.e(), 512));
            area.extend(little_endian(rsa.n(), 512));
        } else {
            let key = self.key.ec_key().unwrap();
            let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
            let mut context = BigNumContext::new().unwrap();
            key.public_key()
                .affine_coordinates(key.group(), &mut x, &mut y, &mut context)
                .unwrap();
            let curve: u32 = if key.group().curve_name() == Some(Nid::SECP384R1) {
                2
            } else {
                1
            };
            area.extend(curve.to_le_bytes());
            area.extend(little_endian(&x, 72));
            area.extend(little_endian(&y, 72));
        }
        area.resize(1028, 0);
        area
    }

    fn sign(&self, body: &[u8]) -> Vec<u8> {
        let mut signature = if self.key.id() == Id::RSA {
            let mut signer = Signer::new(self.digest(), &self.key).unwrap();
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
            let mut bytes = signer.sign_oneshot_to_vec(body).unwrap();
            bytes.reverse();
            bytes
        } else {
            let digest = hash(self.digest(), body).unwrap();
            let signature = EcdsaSig::sign(&digest, &self.key.ec_key().unwrap()).unwrap();
            [little_endian(signature.r(), 72), little_endian(signature.s(), 72)].concat()
        };
        signature.resize(512, 0);
        [
            &self.usage.to_le_bytes()[..],
            &self.algorithm.to_le_bytes(),
            &signature,
        ]
        .concat()
    }

    fn certificate(&self, signers: &[&Key]) -> Vec<u8> {
        let head = [
            [1, 0, 0, 0],
            [0; 4],
            self.usage.to_le_bytes(),
            self.algorithm.to_le_bytes(),
        ]
        .concat();
        let body = [head, self.area()].concat();
        let mut bytes = body.clone();
        for slot in 0..2 {
            let empty = || [&0x1000u32.to_le_bytes()[..], &[0; 516]].concat();
            bytes.extend(signers.get(slot).map_or_else(empty, |signer| signer.sign(&body)));
        }
        bytes
    }
}

fn little_endian(number: &BigNumRef, size: i32) -> Vec<u8> {
    let mut bytes = number.to_vec_padded(size).unwrap();
    bytes.reverse();
    bytes
}

/// PDH‖PEK‖OCA‖CEK.
fn chain(pdh: &Key, pek: &Key, oca: &Key, cek: &Key) -> Vec<u8> {
    [
        pdh.certificate(&[pek]),
        pek.certificate(&[oca, cek]),
        oca.certificate(&[oca]),
        cek.certificate(&[]),
    ]
    .concat()
}

fn verify(chain: &[u8]) -> Result<(), ChainError> {
    PresentedChain::parse(None, chain)?.verify_without_authority()
}

#[test]
fn an_owner_may_have_another_kind_of_key() {
    let pdh = Key::ec(0x1003, 3, Nid::SECP384R1);
    let cek = Key::ec(0x1004, 2, Nid::SECP384R1);
    let owners = [
        Key::rsa(0x1001, 1, 2048),
        Key::rsa(0x1001, 0x101, 2048),
        Key::rsa(0x1001, 1, 3072),
        Key::ec(0x1001, 2, Nid::X9_62_PRIME256V1),
        Key::ec(0x1001, 0x102, Nid::SECP384R1),
    ];
    for oca in owners {
        let pek = Key::ec(0x1002, 0x102, Nid::SECP384R1);
        let chain = chain(&pdh, &pek, &oca, &cek);
        assert_eq!(verify(&chain), Ok(()), "{:#x}", oca.algorithm);

        let mut tampered = chain.clone();
        tampered[2084 + 1052] ^= 1;
        let refused = ChainError::Signature {
            of: Usage::Pek,
            by: Usage::Oca,
        };
        assert_eq!(verify(&tampered), Err(refused));
        let mut longer = chain.clone();
        longer[2084 + 1563] = 1;
        assert!(verify(&longer).is_err(), "something behind the signature");
    }
}

#[test]
fn a_signature_whose_hash_is_not_its_signers_is_refused() {
    let pdh = Key::ec(0x1003, 3, Nid::SECP384R1);
    let cek = Key::ec(0x1004, 2, Nid::SECP384R1);
    let oca = Key::ec(0x1001, 2, Nid::SECP384R1);
    let pek = Key::ec(0x1002, 2, Nid::SECP384R1);
    let other_hash = Key {
        usage: 0x1002,
        algorithm: 0x102,
        key: pek.key.clone(),
    };

    let mut chain = chain(&pdh, &pek, &oca, &cek);
    chain[..2084].copy_from_slice(&pdh.certificate(&[&other_hash]));

    assert_eq!(
        verify(&chain),
        Err(ChainError::Signature {
            of: Usage::Pdh,
            by: Usage::Pek
        })
    );
}

#[test]
fn the_pek_needs_both_signatures() {
    let pdh = Key::ec(0x1003, 3, Nid::SECP384R1);
    let cek = Key::ec(0x1004, 2, Nid::SECP384R1);
    let oca = Key::ec(0x1001, 2, Nid::SECP384R1);
    let pek = Key::ec(0x1002, 2, Nid::SECP384R1);
    for (signers, missing) in [
        (vec![&oca], Usage::Cek),
        (vec![&cek], Usage::Oca),
        (vec![], Usage::Oca),
    ] {
        let mut chain = chain(&pdh, &pek, &oca, &cek);
        chain[2084..4168].copy_from_slice(&pek.certificate(&signers));
        assert_eq!(
            verify(&chain),
            Err(ChainError::Unsigned {
                of: Usage::Pek,
                by: missing
            })
        );
    }
}

#[test]
fn an_rsa_key_of_an_unfit_size_is_refused() {
    for bits in [1024, 2040] {
        let oca = Key::rsa(0x1001, 1, bits);
        let refused = keyward::sev::Certificate::parse(&oca.certificate(&[])).unwrap_err();
        assert_eq!(refused, keyward::sev::CertificateError::RsaKey, "{bits} bits");
    }
    let mut lying = Key::rsa(0x1001, 1, 2048).certificate(&[]);
    lying[17] = 0x10;
    let refused = keyward::sev::Certificate::parse(&lying).unwrap_err();
    assert_eq!(refused, keyward::sev::CertificateError::RsaKey);
}

#[test]
fn a_pdh_on_another_curve_is_the_sender_s_fault_under_a_root_that_signs_it() {
    let pdh = Key::ec(0x1003, 3, Nid::X9_62_PRIME256V1);
    let cek = Key::ec(0x1004, 2, Nid::SECP384R1);
    let oca = Key::ec(0x1001, 2, Nid::SECP384R1);
    let pek = Key::ec(0x1002, 2, Nid::SECP384R1);
    let mut chain = chain(&pdh, &pek, &oca, &cek);
    let signed = ca().sign_cek(&Certificate::parse(&cek.certificate(&[])).unwrap());
    chain[3 * 2084..].copy_from_slice(signed.unwrap().as_bytes());
    chain.extend([ca().ask().as_bytes(), ca().ark().as_bytes()].concat());

    let app = App::new();
    app.standard();
    let request = json!({"pdh": Base64Bytes(chain[..2084].to_vec()), "cert-chain": Base64Bytes(chain)});
    let refused = app.ask_launch(&request).expect(422, "chain-invalid");
    assert_eq!(refused.detail(), "PDH: the PDH is not on P-384");
    let recorded = app.decisions()[0]["reason"].clone();
    assert_eq!(
        recorded,
        "the certificate chain is invalid: PDH: the PDH is not on P-384"
    );
}
