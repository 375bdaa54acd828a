# METADATA
# title: What SEV proved about the guest
# description: |
#   Conditions on what the measurement proved (`input.attested`). Before the release phase nothing is attested, and
#   none of them holds. Each one guards against null, which Rego orders below every number.
#
#     import data.keyward.sev
#
#     allow if {
#         sev.no_debug
#         sev.no_key_sharing
#         sev.launch_digest_in(data.approved_digests)
#     }
# schemas:
#   - input: schema["policy-input.schema"]
package keyward.sev

# METADATA
# title: The host can't debug the guest
# description: Bit NODBG of the SEV policy is set. Without it the host may decrypt guest memory.
# custom:
#   example: 'sev.no_debug'
no_debug if input.attested.policy_bits.no_debug == true

# METADATA
# title: No other guest shares the memory key
# description: Bit NOKS of the SEV policy is set. Without it the host may start its own guest on the same key.
# custom:
#   example: 'sev.no_key_sharing'
no_key_sharing if input.attested.policy_bits.no_key_sharing == true

# METADATA
# title: SEV-ES is required
# description: Bit ES of the SEV policy is set, so register state is encrypted and measured.
# custom:
#   example: 'sev.es'
es if input.attested.policy_bits.es == true

# METADATA
# title: The guest can't be sent to another platform
# description: Bit NOSEND of the SEV policy is set.
# custom:
#   example: 'sev.no_send'
no_send if input.attested.policy_bits.no_send == true

# METADATA
# title: The firmware's API is at least this version
# description: Major and minor together, so 2.0 is later than 1.51.
# custom:
#   example: 'sev.min_api_version(1, 51)'
min_api_version(major, _) if {
	_numbers(major, 0)
	input.attested.api_major > major
}

min_api_version(major, minor) if {
	_numbers(major, minor)
	input.attested.api_major == major
	input.attested.api_minor >= minor
}

# METADATA
# title: The firmware's build is at least this one
# description: |
#   Builds are counted per product and API version, so pair it with `min_api_version` and `platform.product_in`.
# custom:
#   example: 'sev.build_at_least(18)'
build_at_least(build) if {
	is_number(build)
	is_number(input.attested.build_id)
	input.attested.build_id >= build
}

# METADATA
# title: The firmware's build is one of these
# description: "An array or a set; an empty one never holds."
# custom:
#   example: 'sev.build_in({18, 21})'
build_in(builds) if {
	is_number(input.attested.build_id)
	some build in builds
	build == input.attested.build_id
}

# METADATA
# title: The launch digest is one of these
# description: |
#   An array or a set of hex texts, in either case; an empty one never holds.
# custom:
#   example: 'sev.launch_digest_in(data.approved)'
launch_digest_in(digests) if {
	is_string(input.attested.launch_digest)
	some digest in digests
	is_string(digest)
	lower(digest) == input.attested.launch_digest
}

# METADATA
# title: The digest was not proposed by the host
# description: |
#   It is one that the workload names, or was computed from one of its images. A digest that the host proposed is as
#   proved as any other, but nobody has approved it yet.
# custom:
#   example: 'sev.digest_named_by_owner'
digest_named_by_owner if input.attested.digest_source in {"registered", "image"}

# METADATA
# title: Both are numbers, and so is what is attested
# description: Strings order above numbers and null below them, so every comparison is guarded by this.
_numbers(major, minor) if {
	is_number(major)
	is_number(minor)
	is_number(input.attested.api_major)
	is_number(input.attested.api_minor)
}
