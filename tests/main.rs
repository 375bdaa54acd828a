//! One test binary; a module per capability.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; clippy.toml exempts the tests themselves but not their helpers"
)]

mod architecture;
mod audit_checkpoint;
mod audit_record;
mod audit_tree;
mod audit_verify;
mod bad_input;
mod bad_input_body;
mod bad_input_http;
mod bad_input_random;
mod cli_apply;
mod cli_decision;
mod cli_init;
mod cli_owner;
mod cli_policy;
mod cli_policy_diff;
mod cli_policy_push;
mod cli_psp;
mod cli_sev;
mod cli_start;
mod cli_tls;
mod cli_usage;
mod crash;
mod example;
mod host_digest;
mod host_flood;
mod host_mailing;
mod host_platform;
mod host_policy;
mod host_probing;
mod host_register;
mod host_rego;
mod hostile_at_request;
mod hostile_at_upload;
mod isolation;
mod kds_answers;
mod kds_completion;
mod kds_import;
mod limits;
mod owners;
mod policy_bundle;
mod policy_check;
mod policy_docs;
mod policy_explain;
mod policy_hostile;
mod policy_input;
mod policy_library;
mod policy_loading;
mod policy_nullable;
mod policy_replay;
mod policy_signing;
mod policy_support;
mod policy_table;
mod policy_unbound;
mod policy_verdict;
mod psp_faults;
mod psp_launch;
mod psp_status;
mod psp_stored;
mod readme;
mod register;
mod release_flow;
mod revisions;
mod schemas;
mod sealing;
mod secrecy;
mod sev_authority;
mod sev_certificate;
mod sev_chain;
mod sev_chain_handmade;
mod sev_chain_tampered;
mod sev_launch_digest;
mod sev_measurement;
mod sev_oracle;
mod sev_packet;
mod sev_parsers;
mod sev_policy;
mod sev_secret_table;
mod sev_session;
mod sev_wrong;
mod store_changes;
mod store_counts;
mod store_database;
mod store_faults;
mod support;
mod wrong;
mod wrong_at_rest;
mod wrong_policies;
