//! The whole launch: guest owner and software PSP against each other.

use keyward::psp::{Ca, Guest, GuestState, Platform, PlatformOptions};
use keyward::sev::secret_table::{self, Entry, LUKS_PASSPHRASE};
use keyward::sev::session::start;
use keyward::sev::{
    AttestedLaunch, Build, Certificate, Digest, Measurement, PresentedChain, Session, SevPolicy,
    SystemRandom, TrustedRoots, measurement, packet,
};
use zeroize::Zeroizing;

/// SEV with NODBG and NOKS.
pub(crate) const PLAIN: SevPolicy = SevPolicy(3);
/// SEV-ES with NODBG and NOKS.
pub(crate) const ENCRYPTED_STATE: SevPolicy = SevPolicy(7);

/// A platform with small CA keys: quick to make, and of no other consequence.
pub(crate) fn platform() -> Platform {
    platform_with(&PlatformOptions::default())
}

pub(crate) fn platform_with(options: &PlatformOptions) -> Platform {
    Platform::generate_with_ca(&Ca::generate(2048).unwrap(), options).unwrap()
}

/// The owner's side: a session for this platform.
pub(crate) fn session(platform: &Platform, policy: SevPolicy) -> Session {
    start(
        &Certificate::parse(&platform.pdh()).unwrap(),
        policy,
        &SystemRandom,
    )
    .ok()
    .unwrap()
}

/// The host's side: a guest started on the session, loaded with the firmware and measured.
pub(crate) fn launch(
    platform: &Platform,
    session: &Session,
    policy: SevPolicy,
    firmware: &[u8],
) -> (Guest, [u8; 48]) {
    let owner = session.owner_certificate.as_bytes();
    let mut guest = platform
        .launch_start(policy.bits(), owner, &session.blob)
        .ok()
        .unwrap();
    guest.launch_update_data(firmware).unwrap();
    let measurement = guest.launch_measure().unwrap();
    (guest, measurement)
}

/// The owner's side: what the measurement proves, if the digest is this one.
pub(crate) fn attest(
    session: &Session,
    measurement: &[u8],
    build: Build,
    policy: SevPolicy,
    digest: Digest,
) -> Option<AttestedLaunch> {
    let measurement = Measurement::parse(measurement).unwrap();
    measurement::verify(&session.keys, &measurement, build, policy, [(digest, ())])
        .map(|(attested, ())| attested)
}

pub(crate) fn table(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    secret_table::build(&[Entry {
        guid: LUKS_PASSPHRASE,
        data: Zeroizing::new(secret.to_vec()),
    }])
    .unwrap()
}

const FIRMWARE: [u8; 64] = [0x90; 64];

#[test]
fn a_secret_reaches_the_guest_that_was_measured() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let (mut guest, measurement) = launch(&platform, &session, PLAIN, &FIRMWARE);
    let digest = openssl::sha::sha256(&FIRMWARE);

    let attested = attest(&session, &measurement, platform.build(), PLAIN, digest).unwrap();
    let packet = packet::seal(&session.keys, &attested, &table(b"correct horse"), &SystemRandom).unwrap();
    let injected = guest
        .launch_secret(&packet.header, &packet.payload, packet.payload.len())
        .unwrap();

    assert_eq!(guest.launch_digest(), Some(digest));
    let entries = secret_table::parse(&injected).ok().unwrap();
    assert_eq!(
        (entries[0].guid, &entries[0].data[..]),
        (LUKS_PASSPHRASE, &b"correct horse"[..])
    );
    guest.launch_finish().unwrap();
    assert_eq!(guest.state(), GuestState::Running);
}

#[test]
fn under_sev_es_the_vcpus_are_measured_behind_the_data() {
    let platform = platform();
    let session = session(&platform, ENCRYPTED_STATE);
    let owner = session.owner_certificate.as_bytes();
    let mut guest = platform
        .launch_start(ENCRYPTED_STATE.bits(), owner, &session.blob)
        .ok()
        .unwrap();

    guest.launch_update_data(&FIRMWARE).unwrap();
    guest.launch_update_vmsa(&[7; 4096]).unwrap();
    let measurement = guest.launch_measure().unwrap();

    let digest = openssl::sha::sha256(&[&FIRMWARE[..], &[7; 4096]].concat());
    assert!(attest(&session, &measurement, platform.build(), ENCRYPTED_STATE, digest).is_some());
}

#[test]
fn an_empty_guest_measures_as_the_empty_digest() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let owner = session.owner_certificate.as_bytes();
    let mut guest = platform
        .launch_start(PLAIN.bits(), owner, &session.blob)
        .ok()
        .unwrap();

    let measurement = guest.launch_measure().unwrap();

    let digest = openssl::sha::sha256(b"");
    assert!(attest(&session, &measurement, platform.build(), PLAIN, digest).is_some());
}

#[test]
fn one_session_starts_two_guests_but_a_packet_opens_only_in_the_one_that_was_measured() {
    let platform = platform();
    let session = session(&platform, PLAIN);
    let (first, measurement) = launch(&platform, &session, PLAIN, &FIRMWARE);
    let (second, other) = launch(&platform, &session, PLAIN, &FIRMWARE);
    assert_ne!(measurement, other, "nonces are fresh");

    let digest = openssl::sha::sha256(&FIRMWARE);
    let attested = attest(&session, &measurement, platform.build(), PLAIN, digest).unwrap();
    let packet = packet::seal(&session.keys, &attested, &table(b"for one"), &SystemRandom).unwrap();

    let open = |guest: &Guest| guest.launch_secret(&packet.header, &packet.payload, packet.payload.len());
    assert!(open(&first).is_ok());
    assert_eq!(open(&second).err(), Some(keyward::psp::Status::Measurement));
}

/// Why the server's floor is API 0.17.
#[test]
fn on_api_0_16_one_packet_opens_in_every_guest_of_the_session() {
    let build = Build {
        api_major: 0,
        api_minor: 16,
        build_id: 1,
    };
    let platform = platform_with(&PlatformOptions {
        build,
        ..PlatformOptions::default()
    });
    let session = session(&platform, PLAIN);
    let (first, measurement) = launch(&platform, &session, PLAIN, &FIRMWARE);
    let (second, _) = launch(&platform, &session, PLAIN, &[0; 64]);

    let digest = openssl::sha::sha256(&FIRMWARE);
    let attested = attest(&session, &measurement, build, PLAIN, digest).unwrap();
    let refused = packet::seal(&session.keys, &attested, &table(b"for all"), &SystemRandom);
    let (header, payload) = unbound_packet(&session, &table(b"for all"));

    assert!(matches!(
        refused,
        Err(packet::PacketError::Unbound {
            api_major: 0,
            api_minor: 16
        })
    ));
    for guest in [first, second] {
        assert_eq!(
            guest.launch_secret(&header, &payload, payload.len()).unwrap(),
            table(b"for all")
        );
    }
}

/// A packet as owners made them for API 0.16, whose MAC leaves the measurement out.
fn unbound_packet(session: &Session, table: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer, symm};
    let keys = session.keys.to_bytes();
    let (tek, tik) = keys.split_at(16);
    let iv = [5; 16];
    let payload = symm::encrypt(symm::Cipher::aes_128_ctr(), tek, Some(&iv), table).unwrap();
    let length = (payload.len() as u32).to_le_bytes();
    let message = [&[1, 0, 0, 0, 0], &iv[..], &length, &length, &payload].concat();
    let tik = PKey::hmac(tik).unwrap();
    let mac = Signer::new(MessageDigest::sha256(), &tik)
        .unwrap()
        .sign_oneshot_to_vec(&message)
        .unwrap();
    ([&[0; 4], &iv[..], &mac].concat(), payload)
}

#[test]
fn a_platforms_chain_verifies_in_every_form_under_its_own_root_only() {
    let ca = Ca::generate(4096).unwrap();
    let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).unwrap();
    let roots = TrustedRoots::amd().with_extra("lab", ca.ark().clone()).unwrap();
    let with_ask = TrustedRoots::amd()
        .with_extra_pair("lab", ca.ark().clone(), ca.ask().clone())
        .unwrap();
    let pdh = platform.pdh();

    let full = PresentedChain::parse(None, &platform.full_chain()).unwrap();
    let verified = full.verify(&roots).unwrap();
    assert_eq!((verified.root(), verified.product()), ("lab", None));
    assert_eq!((verified.api_major(), verified.api_minor()), (1, 55));
    assert_eq!(verified.fingerprints().ark, ca.ark().fingerprint());

    let signed = PresentedChain::parse(Some(&pdh), &platform.cert_chain_signed()).unwrap();
    assert_eq!(
        signed.verify(&roots).unwrap_err().to_string(),
        "CEK: signed by no ASK of a trusted root"
    );
    assert_eq!(
        signed.verify(&with_ask).unwrap().fingerprints(),
        verified.fingerprints()
    );

    let unsigned = PresentedChain::parse(Some(&pdh), &platform.cert_chain().unwrap()).unwrap();
    assert!(!unsigned.cek_is_signed() && signed.cek_is_signed());
    unsigned.verify_without_authority().unwrap();
    assert_eq!(
        unsigned.verify(&with_ask).unwrap_err().to_string(),
        "CEK: carries no signature by the ASK"
    );
    let fetched = Certificate::parse(&platform.signed_cek()).unwrap();
    let again = ca.sign_cek(&fetched).unwrap();
    assert_ne!(again.as_bytes(), fetched.as_bytes(), "signed anew at each fetch");
    for cek in [fetched, again] {
        let completed = unsigned.with_signed_cek(&cek).unwrap();
        assert_eq!(
            completed.verify(&with_ask).unwrap().fingerprints(),
            verified.fingerprints()
        );
    }

    assert!(full.verify(&TrustedRoots::amd()).is_err());
}
