//! Launch digests: answers of other implementations, and what cannot be measured.

use keyward::sev::launch_digest::{CpuModel, Firmware, KernelHashes, VmsaVariant, sev, sev_es};

use crate::support::vectors;

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
