//! The `sev` crate as an oracle: both sides of the launch against it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use ::sev::certs::sev::Verifiable;
use ::sev::certs::sev::sev::Certificate as TheirCertificate;
use ::sev::firmware::host::{Build as TheirBuild, Version};
use ::sev::launch::sev as theirs;
use ::sev::measurement::sev::{
    SevEsMeasurementArgs, SevMeasurementArgs, sev_calc_launch_digest, seves_calc_launch_digest,
};
use ::sev::measurement::vcpu_types::CpuType;
use ::sev::parser::{Decoder, Encoder};
use ::sev::session::Session as TheirSession;
use keyward::psp::{Ca, Platform, PlatformOptions};
use keyward::sev::launch_digest::{CpuModel, Firmware, KernelHashes, Measurer, VmsaVariant, sev_es};
use keyward::sev::measurement::compute;
use keyward::sev::{Build, Certificate, SevPolicy};
use proptest::prelude::*;
use uuid::uuid;

use crate::psp_launch::{platform_with, session, table};
use crate::sev_chain::real;

static CA: LazyLock<Ca> = LazyLock::new(|| Ca::generate(2048).unwrap());

fn encoded(value: &impl Encoder<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes, ()).unwrap();
    bytes
}

fn build(build: Build) -> TheirBuild {
    let version = Version {
        major: build.api_major,
        minor: build.api_minor,
    };
    TheirBuild {
        version,
        build: build.build_id,
    }
}

/// Made from its parts, as their conversion of a u32 misreads the minimum version.
fn their_policy(policy: SevPolicy) -> theirs::Policy {
    let flags = theirs::PolicyFlags::from_bits(policy.bits() as u16).unwrap();
    theirs::Policy {
        flags,
        minfw: Version {
            major: policy.min_api_major(),
            minor: policy.min_api_minor(),
        },
    }
}

/// The six named bits and a minimum of API 0.x, which is what that crate's type can hold.
fn policy() -> impl Strategy<Value = SevPolicy> {
    (0..64u32, 0..18u32).prop_map(|(bits, minor)| SevPolicy(bits | minor << 24))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Their owner, our PSP: session, measurement and packet.
    #[test]
    fn a_guest_of_theirs_launches_on_our_platform(
        policy in policy(),
        build_id: u8,
        minor in 17..60u8,
        firmware in proptest::collection::vec(any::<u8>(), 1..100),
        secret in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let ours = Build { api_major: 0, api_minor: minor, build_id };
        let options = PlatformOptions { build: ours, ..PlatformOptions::default() };
        let platform = Platform::generate_with_ca(&CA, &options).unwrap();
        let pdh = TheirCertificate::decode(&mut platform.pdh().as_slice(), ()).unwrap();
        let owner = TheirSession::try_from(their_policy(policy)).unwrap();
        let start = owner.start_pdh(pdh).unwrap();
        let blob = theirs_blob(&start.session);
        let firmware = [firmware, vec![0; 16]].concat();
        let firmware = &firmware[..firmware.len() / 16 * 16];

        let owner_certificate = encoded(&start.cert);
        let mut guest = platform.launch_start(policy.bits(), &owner_certificate, &blob).ok().unwrap();
        guest.launch_update_data(firmware).unwrap();
        let measurement = guest.launch_measure().unwrap();

        let measurement = theirs::Measurement::decode(&mut measurement.as_slice(), ()).unwrap();
        let digest = openssl::sha::sha256(firmware);
        let verified = owner.verify(&digest, build(ours), measurement).unwrap();
        let packet = verified.secret(theirs::HeaderFlags::default(), &table(&secret)).unwrap();
        let bytes = encoded(&packet);
        let injected = guest.launch_secret(&bytes[..52], &bytes[52..], bytes.len() - 52).unwrap();
        prop_assert_eq!(injected, table(&secret));
    }

    /// Our PSP's formula against theirs, for any build and digest.
    #[test]
    fn a_measurement_of_ours_holds_for_them(
        policy in policy(),
        versions: [u8; 3],
        digest: [u8; 32],
        mnonce: [u8; 16],
    ) {
        let [api_major, api_minor, build_id] = versions;
        let ours = Build { api_major, api_minor, build_id };
        let owner = TheirSession::try_from(their_policy(policy)).unwrap();
        let keys = [&owner.tek[..], &owner.tik].concat().try_into().unwrap();
        let keys = keyward::sev::LaunchKeys::from_bytes(&keys);

        let measure = compute(&keys, ours, policy, &digest, &mnonce);

        let verified = owner.verify(&digest, build(ours), theirs::Measurement { measure, mnonce });
        prop_assert!(verified.is_ok());
    }
}

fn theirs_blob(session: &theirs::Session) -> Vec<u8> {
    let theirs::Session {
        nonce,
        wrap_tk,
        wrap_iv,
        wrap_mac,
        policy_mac,
    } = session;
    [&nonce[..], wrap_tk, wrap_iv, wrap_mac, policy_mac].concat()
}

#[test]
fn our_owner_certificate_reads_as_a_pdh_of_theirs() {
    let platform = platform_with(&PlatformOptions::default());
    let ours = session(&platform, SevPolicy(3)).owner_certificate;

    let theirs = TheirCertificate::decode(&mut ours.as_bytes().as_slice(), ()).unwrap();

    assert!(theirs == ::sev::certs::sev::Usage::PDH);
    assert_eq!(encoded(&theirs), ours.as_bytes());
}

#[test]
fn real_chains_verify_for_both() {
    for (product, chain) in real() {
        let theirs = ::sev::certs::sev::Chain::decode(&mut chain.as_slice(), ()).unwrap();
        assert!((&theirs).verify().is_ok(), "{product}");
        assert_eq!(crate::sev_chain::verify(&chain), Ok(()), "{product}");
    }
}

/// Files for their interface, which takes paths.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

/// An image that their parser takes: it insists on the metadata of SEV-SNP, here one without sections.
fn firmware(code: &[u8]) -> Vec<u8> {
    let metadata = [
        &b"ASEV"[..],
        &16u32.to_le_bytes(),
        &1u32.to_le_bytes(),
        &0u32.to_le_bytes(),
    ]
    .concat();
    let entries = |offset: u32| {
        crate::sev_launch_digest::image(&[
            (
                uuid!("00f771de-1a7e-4fcb-890e-68c77e2fb44e"),
                &0x0080_b004u32.to_le_bytes(),
            ),
            (
                uuid!("7255371f-3a3b-4b04-927b-1da6efa8d454"),
                &[0, 0xfc, 0x80, 0, 0, 4, 0, 0],
            ),
            (
                uuid!("dc886566-984a-4798-a75e-5585a7bf67cc"),
                &offset.to_le_bytes(),
            ),
        ])
    };
    let offset = (entries(0).len() + metadata.len()) as u32;
    [code, &metadata, &entries(offset)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn launch_digests_are_theirs(
        code in proptest::collection::vec(any::<u8>(), 0..300),
        kernel in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
        initrd in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
        // They trim the command line; what they trim is a test of its own.
        cmdline in proptest::option::of("[!-~]([ -~]{0,40}[!-~])?"),
        vcpus in 1..9u32,
        model in proptest::sample::select(vec![
            (CpuModel::Epyc, CpuType::EpycV4),
            (CpuModel::Rome, CpuType::EpycRome),
            (CpuModel::Milan, CpuType::EpycMilanV2),
            (CpuModel::Genoa, CpuType::EpycGenoa),
            (CpuModel::Turin, CpuType::EpycTurin),
        ]),
    ) {
        let files = Files::new();
        let image = firmware(&code);
        let ovmf_file = files.write("ovmf", &image);
        let kernel_file = kernel.as_ref().map(|bytes| files.write("kernel", bytes));
        let initrd_file = initrd.as_ref().map(|bytes| files.write("initrd", bytes));
        let hashes = kernel.as_ref()
            .map(|kernel| KernelHashes::from_files(kernel, initrd.as_deref(), cmdline.as_deref()));
        let ours = Measurer::new(&Firmware::parse(image).unwrap(), hashes.as_ref()).unwrap();

        let plain = sev_calc_launch_digest(SevMeasurementArgs {
            ovmf_file: ovmf_file.clone(),
            kernel_file: kernel_file.clone(),
            initrd_file: initrd_file.clone(),
            append: cmdline.as_deref(),
        }).unwrap();
        let encrypted_state = seves_calc_launch_digest(SevEsMeasurementArgs {
            vcpus,
            vcpu_type: model.1,
            ovmf_file,
            kernel_file,
            initrd_file,
            append: cmdline.as_deref(),
            vmm_type: None,
        }).unwrap();

        prop_assert_eq!(ours.sev(), plain);
        prop_assert_eq!(ours.sev_es(vcpus, model.0.signature(), VmsaVariant::Init2).unwrap(), encrypted_state);
    }
}

/// Bits 23:16 are the minimum API's major version and 31:24 the minor; the crate takes nibbles of the lower byte.
#[test]
fn where_they_misread_the_minimum_version_ours_is_the_specifications() {
    let policy = SevPolicy(0x1701_0003);

    let theirs = theirs::Policy::from(policy.bits()).minfw;

    assert_eq!((theirs.major, theirs.minor), (0, 1));
    assert_eq!((policy.min_api_major(), policy.min_api_minor()), (1, 0x17));
}

/// QEMU hashes the command line as it is; the crate trims it, and so computes a digest that no guest has.
#[test]
fn where_they_trim_the_command_line_ours_is_qemus() {
    let files = Files::new();
    let image = firmware(&[]);
    let digest = |append| {
        let args = SevMeasurementArgs {
            ovmf_file: files.write("ovmf", &image),
            kernel_file: Some(files.write("kernel", b"kernel")),
            initrd_file: None,
            append: Some(append),
        };
        sev_calc_launch_digest(args).unwrap()
    };
    let ours = |cmdline| {
        let hashes = KernelHashes::from_files(b"kernel", None, Some(cmdline));
        Measurer::new(&Firmware::parse(image.clone()).unwrap(), Some(&hashes))
            .unwrap()
            .sev()
    };

    assert_eq!(digest("quiet"), ours("quiet"));
    assert_eq!(digest("quiet "), ours("quiet"), "trimmed by them");
    assert_ne!(digest("quiet "), ours("quiet "));
}

/// The crate leaves whatever lay in memory behind the point of the certificates it makes. An owner's is read all
/// the same; a platform's, which firmware makes, never has it.
#[test]
fn where_they_leave_memory_in_a_certificate_ours_is_zero() {
    use ::sev::certs::sev::sev::Usage as TheirUsage;
    let made = |usage| encoded(&TheirCertificate::generate(usage).unwrap().0);
    let with_memory = |usage| {
        let mut bytes = made(usage);
        bytes[164..1044].fill(0x55);
        bytes
    };

    let platform = platform_with(&PlatformOptions::default());
    let ours = session(&platform, SevPolicy(3)).owner_certificate;
    assert!(ours.as_bytes()[164..1044].iter().all(|byte| *byte == 0));
    assert!(Certificate::parse(&made(TheirUsage::OCA)).is_ok());
    assert!(Certificate::parse(&with_memory(TheirUsage::OCA)).is_ok());
    for usage in [TheirUsage::PEK, TheirUsage::PDH, TheirUsage::CEK] {
        assert!(Certificate::parse(&with_memory(usage)).is_err());
    }
}

/// The crate measures a guest without vCPUs as one of plain SEV.
#[test]
fn where_they_measure_no_vcpu_ours_refuses() {
    let files = Files::new();
    let image = firmware(&[]);
    let args = SevEsMeasurementArgs {
        vcpus: 0,
        vcpu_type: CpuType::EpycMilan,
        ovmf_file: files.write("ovmf", &image),
        kernel_file: None,
        initrd_file: None,
        append: None,
        vmm_type: None,
    };

    let ours = Firmware::parse(image).unwrap();

    assert_eq!(seves_calc_launch_digest(args).unwrap(), ours.hash());
    assert!(sev_es(&ours, None, 0, CpuModel::Milan.signature(), VmsaVariant::Init2).is_err());
}
