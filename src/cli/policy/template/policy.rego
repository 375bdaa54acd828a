# METADATA
# title: Who gets the secrets that this policy is bound to
# description: |
#   A guest that was reviewed, on a platform of ours, with firmware that we trust. What may change without a change of
#   the rules is in reference/data.yaml. The library is under `data.keyward`.
package @PACKAGE@

import data.keyward.platform
import data.keyward.sev

# Only what is spelt out below is allowed.
default allow := false

# A release: the guest was measured, and `input.attested` is what that proved.
allow if {
	platform.oca_in(data.reference.operators)
	sev.no_debug
	sev.no_key_sharing
	sev.build_at_least(data.reference.min_build)
	sev.launch_digest_in(data.reference.launch_digests)
}

# A launch: nothing is attested yet and nothing secret leaves, but a platform that is not ours need not begin.
default allow_launch := false

allow_launch if platform.oca_in(data.reference.operators)

# What is told in words is read in words, by whoever asks why a guest was denied.
deny contains sprintf("firmware build %d is older than %d, the oldest that we trust", [build, least]) if {
	build := input.attested.build_id
	least := data.reference.min_build
	is_number(build)
	build < least
}

# Beyond this many releases of one secret, the next waits for the owner.
release_limit := data.reference.max_releases
