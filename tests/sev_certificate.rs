//! SEV certificates: what is read, and what is refused.

use keyward::sev::{Certificate, CertificateError, Usage};
use openssl::sha::sha256;

use crate::sev_session::pdh;

/// The certificate with a u32 at an offset.
fn with(offset: usize, word: u32) -> Result<Certificate, CertificateError> {
    let mut bytes = *pdh().as_bytes();
    bytes[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    Certificate::parse(&bytes)
}

#[test]
fn a_certificate_is_kept_byte_for_byte() {
    let mut bytes = *pdh().as_bytes();
    (bytes[4], bytes[5]) = (1, 55);

    let certificate = Certificate::parse(&bytes).unwrap();

    assert_eq!(certificate.as_bytes(), &bytes);
    assert_eq!((certificate.api_major(), certificate.api_minor()), (1, 55));
    assert_eq!(certificate.fingerprint(), sha256(&bytes[8..1044]));
    assert_eq!(
        format!("{certificate:?}"),
        format!("Certificate(PDH {})", hex::encode(sha256(&bytes[8..1044])))
    );
}

#[test]
fn only_2084_bytes_are_a_certificate() {
    let bytes = *pdh().as_bytes();
    for length in 0..bytes.len() {
        let error = Certificate::parse(&bytes[..length]).unwrap_err();
        assert_eq!(error, CertificateError::Length(length));
    }
    let error = Certificate::parse(&[&bytes[..], &[0]].concat()).unwrap_err();
    assert_eq!(error.to_string(), "a SEV certificate has 2084 bytes, not 2085");
}

#[test]
fn unknown_numbers_are_refused() {
    for version in [0, 2, 0x0100_0000] {
        assert_eq!(with(0, version).unwrap_err(), CertificateError::Version(version));
    }
    for usage in [0x00, 0x13, 0x1000, 0x1005, u32::MAX] {
        assert_eq!(with(8, usage).unwrap_err(), CertificateError::Usage(usage));
    }
    for algorithm in [0, 4, 0x100, 0x104] {
        assert_eq!(
            with(12, algorithm).unwrap_err(),
            CertificateError::Algorithm(algorithm)
        );
    }
    for curve in [0, 3, u32::MAX] {
        assert_eq!(with(16, curve).unwrap_err(), CertificateError::Curve(curve));
    }
    let mut signed = *pdh().as_bytes();
    signed[1048] = 2;
    signed[1044..1048].copy_from_slice(&0x1002u32.to_le_bytes());
    assert!(
        Certificate::parse(&signed)
            .unwrap()
            .claims_signature_by(Usage::Pek)
    );
    signed[1044] = 9;
    assert_eq!(
        Certificate::parse(&signed).unwrap_err(),
        CertificateError::SignatureUsage(0x1009)
    );
}

#[test]
fn a_key_does_what_its_usage_says() {
    assert!(matches!(
        with(12, 2),
        Err(CertificateError::AlgorithmOfUsage {
            usage: Usage::Pdh,
            ..
        })
    ));
    for usage in [0x1001, 0x1002, 0x1004] {
        assert!(
            matches!(with(8, usage), Err(CertificateError::AlgorithmOfUsage { .. })),
            "{usage:#x}"
        );
    }
}

#[test]
fn a_key_that_is_no_point_of_its_curve_is_refused() {
    let edit = |edit: &dyn Fn(&mut [u8; 2084])| {
        let mut bytes = *pdh().as_bytes();
        edit(&mut bytes);
        Certificate::parse(&bytes).err()
    };
    let point = Some(CertificateError::Point);

    assert_eq!(edit(&|bytes| bytes[20] ^= 1), point, "x");
    assert_eq!(edit(&|bytes| bytes[92] ^= 1), point, "y");
    assert_eq!(
        edit(&|bytes| bytes[20..164].fill(0)),
        point,
        "zero, which stands for infinity"
    );
    assert_eq!(
        edit(&|bytes| bytes[20..164].fill(0xff)),
        point,
        "beyond the field"
    );
    assert_eq!(
        edit(&|bytes| bytes[68] = 1),
        point,
        "the same x modulo 2^384 only"
    );
    assert_eq!(edit(&|bytes| bytes[16] = 1), point, "P-256");
}

#[test]
fn a_coordinate_above_the_prime_is_refused_though_it_is_the_same_point() {
    use openssl::bn::{BigNum, BigNumContext};
    let mut bytes = *pdh().as_bytes();
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::SECP384R1).unwrap();
    let number = || BigNum::new().unwrap();
    let (mut prime, mut a, mut b, mut sum) = (number(), number(), number(), number());
    let mut context = BigNumContext::new().unwrap();
    group
        .components_gfp(&mut prime, &mut a, &mut b, &mut context)
        .unwrap();
    let mut x: Vec<u8> = bytes[20..92].to_vec();
    x.reverse();
    sum.checked_add(&prime, &BigNum::from_slice(&x).unwrap()).unwrap();
    let mut x = sum.to_vec_padded(72).unwrap();
    x.reverse();
    bytes[20..92].copy_from_slice(&x);

    assert_eq!(Certificate::parse(&bytes).unwrap_err(), CertificateError::Point);
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    // Signed, so that the signature's area is one: by a PEK with ECDSA over SHA-256.
    let mut signed = *pdh().as_bytes();
    (signed[1044], signed[1048]) = (2, 2);
    assert!(Certificate::parse(&signed).unwrap().is_signed());
    for offset in [6, 7, 164, 500, 1043, 1052 + 144, 1563] {
        let mut bytes = signed;
        bytes[offset] = 1;
        assert!(
            matches!(Certificate::parse(&bytes), Err(CertificateError::Padding(_))),
            "byte {offset}"
        );
    }
}

#[test]
fn the_same_key_under_other_signatures_is_the_same_key() {
    let certificate = pdh();
    let mut bytes = *certificate.as_bytes();
    bytes[1044..].fill(0);
    bytes[5] = 9;
    let other = Certificate::parse(&bytes).unwrap();

    assert!(certificate.same_public_key(&other) && !certificate.same_public_key(&pdh()));
    assert_eq!(certificate.fingerprint(), other.fingerprint());
}
