# METADATA
# title: What a workload names is what it is held to
# description: |
#   The server binds this policy to every workload, besides the workload's own. `input.registration` is what the owner
#   registered; no other policy sees it. Each condition that fails is a message with both values.
package keyward.workload

# METADATA
# title: Release when nothing is denied
# description: Whether the secrets may be released to what was measured.
# entrypoint: true
default allow := false

allow if {
	input.phase == "release"
	count(deny) == 0
}

# METADATA
# title: Launch when nothing is denied
# description: Nothing is attested yet; only the platform can be held to what the workload names.
# entrypoint: true
default allow_launch := false

allow_launch if {
	input.phase == "launch"
	count(deny_launch) == 0
}

# METADATA
# title: Reasons against a launch
# description: |
#   A missing registration, a platform of another operator than the pinned one, and a host that is none of the
#   workload's.
deny_launch contains "the workload's registration is missing" if not input.registration

deny_launch contains message if some message in _foreign_operator

deny_launch contains message if some message in _foreign_host

# METADATA
# title: Reasons against a release
# description: Everything that the workload names and the launch does not fulfil.
deny contains "the workload's registration is missing" if not input.registration

deny contains message if some message in _foreign_operator

deny contains message if some message in _foreign_host

deny contains "no launch digest is attested" if not is_string(input.attested.launch_digest)

deny contains message if {
	_names_digests
	not _digest_named
	message := sprintf("launch digest %v is not one that the workload names", [input.attested.launch_digest])
}

deny contains message if {
	is_number(input.workload.policy)
	input.attested.policy != input.workload.policy
	message := sprintf("SEV policy %v is not the registered %v", [input.attested.policy, input.workload.policy])
}

deny contains message if {
	_scheme_has_es != input.attested.policy_bits.es
	message := sprintf(
		"bit ES of the SEV policy is %v, which does not fit the scheme %v",
		[input.attested.policy_bits.es, input.scheme],
	)
}

deny contains message if {
	not input.registration.danger_weak_policy
	some bit, meaning in {
		"no_debug": "the host may debug the guest",
		"no_key_sharing": "the host may share the memory key with a guest of its own",
	}
	input.attested.policy_bits[bit] != true
	message := sprintf("%v: bit %v of the SEV policy is %v, expected true", [
		meaning,
		bit,
		input.attested.policy_bits[bit],
	])
}

# A count that the digest was computed for is proved.
deny contains message if {
	is_number(input.registration.vcpus)
	_vcpus_proved
	input.attested.image.vcpus != input.registration.vcpus
	message := sprintf(
		"%v vCPUs are proved, expected the registered %v",
		[input.attested.image.vcpus, input.registration.vcpus],
	)
}

# A count that nothing proves is held against what the host says; silence denies.
deny contains message if {
	is_number(input.registration.vcpus)
	not _vcpus_proved
	not _vcpus_within_digest
	input.claimed.cpu_count != input.registration.vcpus
	message := sprintf(
		"%v vCPUs (claimed, not proved), expected the registered %v",
		[input.claimed.cpu_count, input.registration.vcpus],
	)
}

deny contains message if {
	count(input.registration.products) > 0
	not _product_named
	message := sprintf(
		"product %v is not one of the registered %v",
		[input.platform.product, concat(", ", input.registration.products)],
	)
}

# Its firmware can be rolled back and its keys extracted, so silence does not include it.
deny contains message if {
	input.platform.product == "naples"
	not _product_named
	message := "product naples is not accepted unless the workload names it"
}

# METADATA
# title: How often the workload's secrets may be released
# description: The registered number; 2^53, which no count reaches, where none is registered.
release_limit := input.registration.max_releases if {
	is_number(input.registration.max_releases)
} else := 9007199254740992

# METADATA
# title: Another operator than the pinned one
# description: The platform's OCA certificate is not the one that the workload pins.
_foreign_operator contains message if {
	is_string(input.registration.oca)
	input.platform.fingerprints.oca != input.registration.oca
	message := sprintf(
		"OCA fingerprint %v is not the pinned %v",
		[input.platform.fingerprints.oca, input.registration.oca],
	)
}

# METADATA
# title: A host that may not launch this workload
# description: It did not prove who it is where that is required, or the workload names others.
_foreign_host contains "the host did not identify itself, as the workload requires" if {
	input.registration.require_host_identity
	not is_string(input.host.identity)
}

_foreign_host contains message if {
	input.registration.names_hosts
	is_string(input.host.identity)
	not input.host.identity in input.registration.hosts
	message := sprintf("host %v is not one that the workload names", [input.host.identity])
}

# METADATA
# title: The workload names what may run
# description: It names digests, images or firmware. With all lists empty nothing may run, not everything.
_names_digests if input.registration.names_digests

_names_digests if input.registration.images

_names_digests if count(input.registration.launch_digests) > 0

# METADATA
# title: The attested digest is a named one
# description: It is registered, or computed from a registered image.
_digest_named if input.attested.launch_digest in input.registration.launch_digests

_digest_named if input.attested.launch_digest in input.registration.image_digests

# METADATA
# title: Whether the scheme encrypts register state
# description: True for amd-sev-es.
default _scheme_has_es := false

_scheme_has_es if input.scheme == "amd-sev-es"

# METADATA
# title: The vCPU count is proved
# description: Under SEV-ES, by a digest that was computed for this count.
_vcpus_proved if {
	input.scheme == "amd-sev-es"
	is_number(input.attested.image.vcpus)
}

# METADATA
# title: The vCPU count is part of a digest that the owner registered
# description: Under SEV-ES a registered digest covers the register state of each vCPU, so the count is its matter.
_vcpus_within_digest if {
	input.scheme == "amd-sev-es"
	input.attested.launch_digest in input.registration.launch_digests
}

# METADATA
# title: The product is a named one
# description: Null, under an extra root, is none.
_product_named if {
	is_string(input.platform.product)
	input.platform.product in input.registration.products
}
