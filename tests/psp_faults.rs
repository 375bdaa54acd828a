//! Each fault of the software platform is noticed, and where.

use keyward::psp::{Ca, Faults, Platform, PlatformOptions, Status};
use keyward::sev::{Certificate, ChainError, PresentedChain, TrustedRoots, Usage};

use crate::psp_launch::{PLAIN, attest, launch, session};

fn with(faults: Faults) -> (Ca, Platform) {
    let ca = Ca::generate(2048).unwrap();
    let options = PlatformOptions {
        faults,
        ..PlatformOptions::default()
    };
    let platform = Platform::generate_with_ca(&ca, &options).unwrap();
    (ca, platform)
}

fn verify(ca: &Ca, chain: &[u8]) -> Result<(), ChainError> {
    let roots = TrustedRoots::amd().with_extra("lab", ca.ark().clone()).unwrap();
    PresentedChain::parse(None, chain)?.verify(&roots).map(|_| ())
}

#[test]
fn a_measurement_with_a_wrong_build_policy_or_digest_does_not_hold() {
    let faults = [
        (Faults::default(), true),
        (
            Faults {
                wrong_build: true,
                ..Faults::default()
            },
            false,
        ),
        (
            Faults {
                wrong_policy: true,
                ..Faults::default()
            },
            false,
        ),
        (
            Faults {
                wrong_digest: true,
                ..Faults::default()
            },
            false,
        ),
    ];
    for (faults, holds) in faults {
        let (_, platform) = with(faults.clone());
        let session = session(&platform, PLAIN);
        let (_, measurement) = launch(&platform, &session, PLAIN, &[1; 16]);
        let digest = openssl::sha::sha256(&[1; 16]);

        let attested = attest(&session, &measurement, platform.build(), PLAIN, digest);

        assert_eq!(attested.is_some(), holds, "{faults:?}");
    }
}

#[test]
fn a_replayed_measurement_does_not_hold_in_another_launch() {
    let (ca, platform) = with(Faults::default());
    let earlier = session(&platform, PLAIN);
    let (_, measurement) = launch(&platform, &earlier, PLAIN, &[1; 16]);
    let faults = Faults {
        replayed_measurement: Some(measurement),
        ..Faults::default()
    };
    let platform = platform.with_faults(faults, &ca).unwrap();
    let later = session(&platform, PLAIN);
    let (_, replayed) = launch(&platform, &later, PLAIN, &[2; 16]);

    assert_eq!(replayed, measurement);
    for digest in [[1; 16], [2; 16]].map(|firmware| openssl::sha::sha256(&firmware)) {
        assert!(attest(&later, &replayed, platform.build(), PLAIN, digest).is_none());
    }
    let digest = openssl::sha::sha256(&[1; 16]);
    assert!(attest(&earlier, &measurement, platform.build(), PLAIN, digest).is_some());
}

#[test]
fn a_stale_pdh_verifies_but_no_session_for_it_starts() {
    let (ca, platform) = with(Faults {
        stale_pdh: true,
        ..Faults::default()
    });
    verify(&ca, &platform.full_chain()).unwrap();
    let session = session(&platform, PLAIN);

    let started = platform.launch_start(PLAIN.bits(), session.owner_certificate.as_bytes(), &session.blob);

    assert_eq!(started.err(), Some(Status::Measurement));
}

#[test]
fn a_foreign_cek_is_well_signed_but_did_not_sign_the_pek() {
    let (ca, platform) = with(Faults {
        foreign_cek: true,
        ..Faults::default()
    });

    let refused = verify(&ca, &platform.full_chain()).unwrap_err();

    assert_eq!(
        refused,
        ChainError::Signature {
            of: Usage::Pek,
            by: Usage::Cek
        }
    );
    let honest = platform.with_faults(Faults::default(), &ca).unwrap();
    verify(&ca, &honest.full_chain()).unwrap();
    let foreign = with(Faults::default()).1;
    let unsigned = PresentedChain::parse(Some(&honest.pdh()), &honest.cert_chain().unwrap()).unwrap();
    let foreign = Certificate::parse(&foreign.signed_cek()).unwrap();
    assert_eq!(
        unsigned.with_signed_cek(&foreign).unwrap_err(),
        ChainError::ForeignCek
    );
    let pdh = Certificate::parse(&honest.pdh()).unwrap();
    let misplaced = ChainError::Misplaced {
        expected: Usage::Cek,
        found: Usage::Pdh,
    };
    assert_eq!(unsigned.with_signed_cek(&pdh).unwrap_err(), misplaced);
}

#[test]
fn another_root_is_refused_whether_or_not_it_is_trusted() {
    let (ca, platform) = with(Faults {
        another_root: true,
        ..Faults::default()
    });

    assert!(matches!(
        verify(&ca, &platform.full_chain()),
        Err(ChainError::UntrustedRoot(_))
    ));

    let other = keyward::sev::CaCertificate::parse(&platform.ark()).unwrap();
    let roots = TrustedRoots::amd().with_extra("other", other).unwrap();
    let refused = PresentedChain::parse(None, &platform.full_chain())
        .unwrap()
        .verify(&roots)
        .unwrap_err();
    assert_eq!(
        refused,
        ChainError::Signature {
            of: Usage::Cek,
            by: Usage::Ask
        }
    );
}
