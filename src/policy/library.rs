//! The Rego library that ships in the binary: the files of `policies/`.

/// The helpers that every owner's bundle sees as `data.keyward.…`: path and text.
pub(super) const HELPERS: &[(&str, &str)] = &[
    ("keyward/limit.rego", include_str!("../../policies/limit.rego")),
    (
        "keyward/platform.rego",
        include_str!("../../policies/platform.rego"),
    ),
    ("keyward/sev.rego", include_str!("../../policies/sev.rego")),
    ("keyward/vcpus.rego", include_str!("../../policies/vcpus.rego")),
];

/// The policies of the server itself, in packages under `keyward`.
pub(super) const POLICIES: &[(&str, &str)] = &[(
    "keyward/workload.rego",
    include_str!("../../policies/workload.rego"),
)];

/// Path and text of every module of the library, tests not included.
pub fn library_modules() -> impl Iterator<Item = (&'static str, &'static str)> {
    HELPERS.iter().chain(POLICIES).copied()
}
