//! Certificate chains: real ones of AMD's platforms, in every form in which they arrive.

use keyward::psp::{Ca, Platform, PlatformOptions};
use keyward::sev::{
    Certificate, ChainError, PresentedChain, Product, StoredPlatform, TrustedRoots, Usage, verify_cek,
};
use openssl::sha::sha256;

use crate::support::vectors;

/// The real chains that are present: PDH‖PEK‖OCA‖CEK‖ASK‖ARK.
pub(crate) fn real() -> Vec<(Product, Vec<u8>)> {
    [
        ("naples-chain.bin", Product::Naples),
        ("rome-chain.bin", Product::Rome),
    ]
    .into_iter()
    .filter_map(|(name, product)| Some((product, vectors::read(name)?)))
    .collect()
}

/// The n-th SEV certificate of a chain: PDH, PEK, OCA, CEK.
pub(crate) fn part(number: usize) -> std::ops::Range<usize> {
    number * 2084..(number + 1) * 2084
}

pub(crate) fn verify(chain: &[u8]) -> Result<(), ChainError> {
    PresentedChain::parse(None, chain)?
        .verify(&TrustedRoots::amd())
        .map(|_| ())
}

#[test]
fn a_real_chain_verifies_in_every_form_with_the_same_fingerprints() {
    for (product, chain) in real() {
        let (pdh, rest) = chain.split_at(2084);
        let (certificates, authority) = rest.split_at(3 * 2084);
        let fingerprints = [1, 2, 3].map(|number| sha256(&chain[part(number)][8..1044]));
        let mut forms = vec![
            (None, chain.clone()),
            (None, chain[..4 * 2084].to_vec()),
            (Some(pdh), chain.clone()),
            (Some(pdh), chain[..4 * 2084].to_vec()),
            (Some(pdh), certificates.to_vec()),
            (Some(pdh), rest.to_vec()),
        ];
        if product == Product::Naples {
            forms.push((None, chain[..chain.len() - 256].to_vec()));
            forms.push((Some(pdh), rest[..rest.len() - 256].to_vec()));
        }
        for (pdh, bytes) in forms {
            let presented = PresentedChain::parse(pdh, &bytes).unwrap();
            presented.verify_without_authority().unwrap();
            let platform = presented.verify(&TrustedRoots::amd()).unwrap();

            assert_eq!((platform.root(), platform.product()), ("amd", Some(product)));
            let found = platform.fingerprints();
            assert_eq!([found.pek, found.oca, found.cek], fingerprints);
            assert_eq!(found.pdh, sha256(&chain[8..1044]));
            let half = authority.len() / 2;
            assert_eq!(
                found.ask,
                sha256(&authority[..if half == 832 { 576 } else { 1088 }])
            );
            assert_eq!(
                found.ark,
                sha256(&authority[half..][..if half == 832 { 576 } else { 1088 }])
            );
            assert_eq!(platform.pdh().as_bytes()[..], chain[part(0)]);
            assert_eq!(platform.cek().as_bytes()[..], chain[part(3)]);
        }
    }
}

#[test]
fn a_missing_pdh_and_two_different_ones_are_refused() {
    let ca = Ca::generate(2048).unwrap();
    let [one, other] =
        [(), ()].map(|()| Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap());
    let parse = |pdh: Option<&[u8]>, chain: &[u8]| PresentedChain::parse(pdh, chain).err();

    assert_eq!(parse(None, &one.cert_chain_signed()), Some(ChainError::NoPdh));
    assert_eq!(
        parse(Some(&other.pdh()), &one.full_chain()),
        Some(ChainError::TwoPdhs)
    );
    assert_eq!(parse(Some(&one.pdh()), &one.full_chain()), None);
    let foreign = PresentedChain::parse(Some(&other.pdh()), &one.cert_chain_signed()).unwrap();
    let refused = foreign.verify_without_authority().unwrap_err();
    assert_eq!(
        refused,
        ChainError::Signature {
            of: Usage::Pdh,
            by: Usage::Pek
        }
    );
    let cek = one.signed_cek();
    let misplaced = ChainError::Misplaced {
        expected: Usage::Pdh,
        found: Usage::Cek,
    };
    assert_eq!(parse(Some(&cek), &one.cert_chain_signed()), Some(misplaced));
}

#[test]
fn qemus_chain_with_an_unsigned_cek_is_completed_by_the_signed_one() {
    for (product, chain) in real() {
        let signed = Certificate::parse(&chain[part(3)]).unwrap();
        let mut qemu = chain[2084..4 * 2084].to_vec();
        qemu[2 * 2084 + 1044..].fill(0);
        qemu[2 * 2084 + 1045] = 0x10;
        let presented = PresentedChain::parse(Some(&chain[part(0)]), &qemu).unwrap();

        assert!(!presented.cek_is_signed() && !presented.cek().is_signed());
        presented.verify_without_authority().unwrap();
        let refused = presented.verify(&TrustedRoots::amd()).unwrap_err();
        assert_eq!(
            refused,
            ChainError::Unsigned {
                of: Usage::Cek,
                by: Usage::Ask
            }
        );
        let platform = presented
            .with_signed_cek(&signed)
            .unwrap()
            .verify(&TrustedRoots::amd())
            .unwrap();
        assert_eq!(platform.product(), Some(product));
    }
}

#[test]
fn a_signature_counts_in_either_slot() {
    for (product, mut chain) in real() {
        let pek = &mut chain[part(1)];
        let (first, second) = pek[1044..].split_at_mut(520);
        first.swap_with_slice(second);
        assert_eq!(verify(&chain), Ok(()), "{product}");
    }
}

#[test]
fn a_cek_alone_tells_its_product_and_only_amds_roots_count() {
    let ca = Ca::generate(2048).unwrap();
    let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap();
    let roots = TrustedRoots::amd()
        .with_extra_pair("lab", ca.ark().clone(), ca.ask().clone())
        .unwrap();
    for (product, chain) in real() {
        let cek = Certificate::parse(&chain[part(3)]).unwrap();
        assert_eq!(verify_cek(&cek, &roots), Ok(product));
        let pek = Certificate::parse(&chain[part(1)]).unwrap();
        let misplaced = ChainError::Misplaced {
            expected: Usage::Cek,
            found: Usage::Pek,
        };
        assert_eq!(verify_cek(&pek, &roots), Err(misplaced));
    }
    let cek = Certificate::parse(&platform.signed_cek()).unwrap();
    assert_eq!(verify_cek(&cek, &roots), Err(ChainError::NoIssuer));
    let chain = PresentedChain::parse(Some(&platform.pdh()), &platform.cert_chain_signed()).unwrap();
    assert_eq!(chain.verify(&roots).unwrap().root(), "lab");
}

#[test]
fn a_stored_platform_reads_back_as_it_was_and_in_no_other_shape() {
    let ca = Ca::generate(2048).unwrap();
    let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap();
    let roots = TrustedRoots::amd().with_extra("lab", ca.ark().clone()).unwrap();
    let verified = PresentedChain::parse(None, &platform.full_chain())
        .unwrap()
        .verify(&roots)
        .unwrap();

    let stored = verified.to_stored();
    let json = serde_json::to_value(&stored).unwrap();

    assert_eq!(
        json["fingerprints"]["pdh"],
        hex::encode(verified.fingerprints().pdh)
    );
    assert_eq!(
        (&json["root"], &json["product"]),
        (&"lab".into(), &serde_json::Value::Null)
    );
    assert_eq!(
        serde_json::from_value::<StoredPlatform>(json.clone()).unwrap(),
        stored
    );
    assert_eq!(
        (stored.root(), stored.product(), stored.api_minor()),
        ("lab", None, 55)
    );
    let mut wrong = json.clone();
    wrong["fingerprints"]["pdh"] = "00".into();
    assert!(serde_json::from_value::<StoredPlatform>(wrong).is_err());
    let mut more = json;
    more["trusted"] = true.into();
    assert!(serde_json::from_value::<StoredPlatform>(more).is_err());
}

#[test]
fn an_error_names_the_certificate_and_quotes_no_key() {
    let ca = Ca::generate(2048).unwrap();
    let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap();
    let full = platform.full_chain();
    let text = |offset: usize| {
        let mut chain = full.clone();
        chain[offset] ^= 1;
        let roots = TrustedRoots::amd().with_extra("lab", ca.ark().clone()).unwrap();
        let presented = PresentedChain::parse(None, &chain);
        presented
            .and_then(|chain| chain.verify(&roots).map(|_| ()))
            .unwrap_err()
            .to_string()
    };

    assert_eq!(text(0), "PDH: certificate version 0 is unknown, expected 1");
    assert_eq!(text(2084 + 20), "PEK: the public key is not a point on its curve");
    assert_eq!(text(2084 + 1052), "PEK: signature by the OCA does not verify");
    assert_eq!(text(2084 + 1572), "PEK: signature by the CEK does not verify");
    assert_eq!(text(2 * 2084 + 1052), "OCA: signature by the OCA does not verify");
    assert_eq!(text(3 * 2084 + 1052), "CEK: signature by the ASK does not verify");
    assert_eq!(text(1052), "PDH: signature by the PEK does not verify");
    assert_eq!(text(1044), "PDH: carries no signature by the PEK");
    assert_eq!(text(4 * 2084 + 831), "ASK: signature by the ARK does not verify");
    assert_eq!(
        text(4 * 2084 + 832 + 831),
        "ARK: signature by the ARK does not verify"
    );
    assert!(text(4 * 2084 + 832 + 4).ends_with("is neither one of AMD's roots nor one that was configured"));
}
