//! Launch digests: answers of other implementations, and what cannot be measured.

use keyward::sev::launch_digest::{
    CpuModel, CpuSignature, Firmware, FirmwareError, KernelHashes, LaunchDigestError, MAX_VCPUS, Measurer,
    VmsaVariant, sev, sev_es,
};
use openssl::sha::sha256;
use uuid::{Uuid, uuid};

use crate::support::vectors;

const FOOTER: Uuid = uuid!("96b582de-1fb2-45f7-baea-a366c55a082d");
const AP_RESET: Uuid = uuid!("00f771de-1a7e-4fcb-890e-68c77e2fb44e");
const SECRET_AREA: Uuid = uuid!("4c2eb361-7d9b-4cc3-8081-127c90d3d294");
const HASH_TABLE: Uuid = uuid!("7255371f-3a3b-4b04-927b-1da6efa8d454");

/// A firmware image that ends in this footer table, which claims this length.
pub(crate) fn footer(entries: &[u8], length: u16) -> Vec<u8> {
    [entries, &length.to_le_bytes(), &FOOTER.to_bytes_le(), &[0; 32]].concat()
}

/// An entry of a footer table: GUID and data.
pub(crate) type Entry<'a> = (Uuid, &'a [u8]);

/// A firmware image with these entries.
pub(crate) fn image(entries: &[Entry<'_>]) -> Vec<u8> {
    let table: Vec<u8> = entries
        .iter()
        .flat_map(|(guid, data)| {
            [
                data,
                &(data.len() as u16 + 18).to_le_bytes()[..],
                &guid.to_bytes_le(),
            ]
            .concat()
        })
        .collect();
    footer(&[&[0xf4; 48][..], &table].concat(), table.len() as u16 + 18)
}

/// A firmware image for SEV-ES, with places for secrets and kernel hashes; its length is one that a PSP takes.
pub(crate) fn es_firmware() -> Vec<u8> {
    let image = image(&[
        (AP_RESET, &0x0080_b004u32.to_le_bytes()),
        (SECRET_AREA, &words([0x0080_c000, 0xc00])),
        (HASH_TABLE, &words([0x0080_cc00, 0x400])),
    ]);
    let padding = image.len().next_multiple_of(16) - image.len();
    [vec![0xf4; padding], image].concat()
}

fn words(words: [u32; 2]) -> Vec<u8> {
    words.map(u32::to_le_bytes).concat()
}

#[test]
fn digests_are_those_of_sev_snp_measure_and_libvirt() {
    use VmsaVariant::{Init2, Legacy};
    let Some(bytes) = vectors::read("ovmf_AmdSev_suffix.bin") else {
        return;
    };
    let firmware = Firmware::parse(bytes).unwrap();
    let full = KernelHashes::from_files(b"kernel", Some(b"initrd"), Some("console=ttyS0"));
    let kernel_only = KernelHashes::from_files(b"kernel", None, None);

    let plain = [
        (
            None,
            "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
        ),
        (
            Some(full),
            "b3e548bbca5328892acc6c54f8b33a780064b1decbf37ee5ab15ed65301417b2",
        ),
        (
            Some(kernel_only),
            "64d16bf330fc792a6544e2f65cea4d6d317da7466f329a197acd5d844ad4be45",
        ),
    ];
    for (kernel, digest) in plain {
        assert_eq!(hex::encode(sev(&firmware, kernel.as_ref()).unwrap()), digest);
    }

    let encrypted_state = [
        (
            1,
            CpuModel::Milan,
            Init2,
            None,
            "89e8cec273c50fc063ea10c9ba9dffb2fc059daa6ad2d566f251908e386decef",
        ),
        (
            2,
            CpuModel::Milan,
            Init2,
            None,
            "c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d",
        ),
        (
            4,
            CpuModel::Milan,
            Init2,
            None,
            "0df0aeacc4ea7b30562e860a807bda27e777bf383de3abe78f0f8b710d37207c",
        ),
        (
            2,
            CpuModel::Epyc,
            Init2,
            Some(full),
            "920fad8a218fd3e07dd11c96228b5043dcadfbd2a2eff7bf3a984fbb9da021c2",
        ),
        (
            2,
            CpuModel::Milan,
            Legacy,
            None,
            "60f6ec95e06c9be0f72066dbfedbc36ccee627d16eaa58f5393ce07d8d386f6d",
        ),
        (
            4,
            CpuModel::Rome,
            Legacy,
            None,
            "df03162d2b70499dae81174dd8658c38402a4bc2aabd605dc0f70798f8ded1e6",
        ),
    ];
    for (vcpus, model, variant, kernel, digest) in encrypted_state {
        let computed = sev_es(&firmware, kernel.as_ref(), vcpus, model.signature(), variant).unwrap();
        assert_eq!(hex::encode(computed), digest, "{vcpus} {model} {variant}");
    }
}

#[test]
fn a_real_footer_table_says_where_things_are() {
    let Some(bytes) = vectors::read("ovmf_AmdSev_suffix.bin") else {
        return;
    };
    let firmware = Firmware::parse(bytes.as_slice()).unwrap();

    assert_eq!(firmware.ap_reset_eip(), Some(0x0080_b004));
    assert_eq!(firmware.secret_area(), Some((0x0081_0000, 0xc00)));
    assert!(firmware.has_hash_table());
    assert_eq!((firmware.bytes(), firmware.hash()), (&bytes[..], sha256(&bytes)));
}

#[test]
fn a_measurer_gives_the_same_digests_without_hashing_again() {
    let firmware = Firmware::parse(image(&[(AP_RESET, &[1, 2, 3, 4])])).unwrap();
    let measurer = Measurer::new(&firmware, None).unwrap();

    assert_eq!(measurer.sev(), sev(&firmware, None).unwrap());
    assert_eq!(
        measurer.sev(),
        sha256(firmware.bytes()),
        "nothing but the firmware"
    );
    let mut seen = vec![measurer.sev()];
    for variant in VmsaVariant::ALL {
        for model in CpuModel::ALL {
            for vcpus in [1, 2, 3, MAX_VCPUS] {
                let digest = measurer.sev_es(vcpus, model.signature(), variant).unwrap();
                assert_eq!(
                    digest,
                    sev_es(&firmware, None, vcpus, model.signature(), variant).unwrap()
                );
                assert!(!seen.contains(&digest), "{vcpus} {model} {variant} is told apart");
                seen.push(digest);
            }
        }
    }
}

#[test]
fn a_count_of_vcpus_that_no_guest_has_is_refused() {
    let firmware = Firmware::parse(image(&[(AP_RESET, &[0; 4])])).unwrap();
    for vcpus in [0, MAX_VCPUS + 1, u32::MAX] {
        let refused = sev_es(
            &firmware,
            None,
            vcpus,
            CpuModel::Milan.signature(),
            VmsaVariant::Init2,
        );
        assert_eq!(refused, Err(LaunchDigestError::Vcpus(vcpus)));
    }
}

#[test]
fn firmware_that_would_not_measure_the_kernel_is_refused_with_one() {
    let kernel = KernelHashes::from_files(b"kernel", None, None);
    let tables: [(&[Entry<'_>], bool); 5] = [
        (&[], false),
        (&[(HASH_TABLE, &words([0x80_fc00, 0x400]))], true),
        (&[(HASH_TABLE, &words([0, 0x400]))], false),
        (&[(HASH_TABLE, &words([0x80_fc00, 175]))], false),
        (&[(HASH_TABLE, &[1, 2, 3])], false),
    ];
    for (entries, supported) in tables {
        let firmware = Firmware::parse(image(entries)).unwrap();
        assert_eq!(firmware.has_hash_table(), supported, "{entries:?}");
        let refused = (!supported).then_some(LaunchDigestError::NoHashTable);
        assert_eq!(sev(&firmware, Some(&kernel)).err(), refused, "{entries:?}");
        let signature = CpuModel::Milan.signature();
        assert_eq!(
            sev_es(&firmware, Some(&kernel), 1, signature, VmsaVariant::Legacy).err(),
            refused
        );
        assert!(sev(&firmware, None).is_ok());
    }
}

#[test]
fn firmware_that_does_not_say_where_further_vcpus_start_has_only_one() {
    let firmware = Firmware::parse(image(&[(SECRET_AREA, &words([1, 2]))])).unwrap();
    let digest = |vcpus| {
        sev_es(
            &firmware,
            None,
            vcpus,
            CpuModel::Epyc.signature(),
            VmsaVariant::Init2,
        )
    };

    assert_eq!(firmware.secret_area(), Some((1, 2)));
    assert!(digest(1).is_ok());
    assert_eq!(digest(2), Err(LaunchDigestError::NoApResetVector));
}

#[test]
fn an_image_without_a_footer_table_is_measured_as_it_is() {
    let image = vec![0x90; 4096];
    let firmware = Firmware::parse(image.clone()).unwrap();

    assert_eq!(sev(&firmware, None).unwrap(), sha256(&image));
    assert_eq!(
        (
            firmware.ap_reset_eip(),
            firmware.secret_area(),
            firmware.has_hash_table()
        ),
        (None, None, false)
    );
}

#[test]
fn short_files_and_tables_that_do_not_add_up_are_errors() {
    for length in 0..50 {
        let error = Firmware::parse(vec![0; length]).err();
        assert_eq!(error, Some(FirmwareError::TooShort(length)));
    }
    let error = |bytes: Vec<u8>| Firmware::parse(bytes).err();
    assert_eq!(error(footer(&[], 18)), None);
    assert_eq!(error(footer(&[], 0)), Some(FirmwareError::Footer));
    assert_eq!(error(footer(&[], 17)), Some(FirmwareError::Footer));
    assert_eq!(
        error(footer(&[], 19)),
        Some(FirmwareError::FooterTooLong { length: 19, file: 50 })
    );
    assert_eq!(
        error(footer(&[], 0xffff)),
        Some(FirmwareError::FooterTooLong {
            length: 0xffff,
            file: 50
        })
    );
    assert_eq!(
        error(footer(&[0; 17], 35)),
        Some(FirmwareError::Footer),
        "an entry of 17 bytes"
    );
    for length in [0u16, 17, 19, 0xffff] {
        let entry = [&length.to_le_bytes()[..], &AP_RESET.to_bytes_le()].concat();
        assert_eq!(
            error(footer(&entry, 36)),
            Some(FirmwareError::Footer),
            "an entry that claims {length}"
        );
    }
}

#[test]
fn a_missing_initrd_and_command_line_are_the_empty_file_and_the_lone_nul() {
    let bare = KernelHashes::from_files(b"kernel", None, None);

    assert_eq!(bare, KernelHashes::from_files(b"kernel", Some(b""), Some("")));
    assert_eq!(bare, KernelHashes::from_digests(sha256(b"kernel"), None, None));
    assert_eq!((bare.initrd, bare.cmdline), (sha256(b""), sha256(b"\0")));
}

#[test]
fn a_command_line_is_hashed_as_it_is_with_one_nul() {
    let of = |cmdline| KernelHashes::from_files(b"", None, Some(cmdline)).cmdline;
    assert_eq!(of(" console=ttyS0\n"), sha256(b" console=ttyS0\n\0"));
    assert_ne!(of("quiet "), of("quiet"));
}

#[test]
fn models_have_the_signatures_that_qemu_gives_them() {
    let models = [
        ("EPYC", CpuModel::Epyc, (23, 1, 2)),
        ("EPYC-IBPB", CpuModel::Epyc, (23, 1, 2)),
        ("EPYC-v4", CpuModel::Epyc, (23, 1, 2)),
        ("EPYC-Rome-v3", CpuModel::Rome, (23, 49, 0)),
        ("EPYC-Milan", CpuModel::Milan, (25, 1, 1)),
        ("EPYC-Milan-v2", CpuModel::Milan, (25, 1, 1)),
        ("EPYC-Genoa", CpuModel::Genoa, (25, 17, 0)),
        ("EPYC-Turin-v1", CpuModel::Turin, (26, 0, 0)),
    ];
    for (name, model, (family, number, stepping)) in models {
        assert_eq!(name.parse(), Ok(model));
        assert_eq!(
            CpuSignature::new(family, number, stepping),
            Ok(model.signature()),
            "{name}"
        );
        assert_eq!(
            format!("{family},{number},{stepping}").parse(),
            Ok(model.signature())
        );
    }
    for name in [
        "",
        "epyc",
        "EPYC-",
        "EPYC-v",
        "EPYC-v0",
        "EPYC-v+1",
        "EPYC-Milan-v",
        "Opteron_G5",
    ] {
        assert!(name.parse::<CpuModel>().is_err(), "{name:?}");
    }
}

#[test]
fn a_signature_is_written_as_cpuid_writes_it() {
    for (family, model, stepping, eax) in [
        (25, 1, 1, 0x00a0_0f11),
        (6, 0x3a, 9, 0x0003_06a9),
        (15, 0, 0, 0xf00),
        (270, 255, 15, 0x0fff_0fff),
    ] {
        assert_eq!(CpuSignature::new(family, model, stepping).unwrap().eax(), eax);
        assert_eq!(CpuSignature::from_eax(eax).eax(), eax);
    }
    assert!(CpuSignature::new(271, 0, 0).is_err() && CpuSignature::new(0, 0, 16).is_err());
    for text in [
        "", "25", "25,1", "25,1,1,1", "25,256,1", "25,1,16", "-1,1,1", "0x19,1,1",
    ] {
        assert!(text.parse::<CpuSignature>().is_err(), "{text:?}");
    }
}
