# METADATA
# title: Who gets the database's disk passphrase
package release.database

import data.keyward.platform
import data.keyward.sev
import data.keyward.vcpus

# Only what is spelt out below is allowed.
default allow := false

allow if {
	sev.no_debug
	sev.no_key_sharing
	sev.es
	sev.min_api_version(1, 50)
	sev.build_at_least(data.reference.min_build)
	sev.digest_named_by_owner
	vcpus.vcpus_proved_at_most(data.reference.max_vcpus)
	platform.host_address_in(data.reference.hosts)
}

# What is told in words is read in words: by `keyward decision show`, and by whoever is on call.
deny contains sprintf("firmware build %d is older than %d, the oldest that we trust", [build, least]) if {
	build := input.attested.build_id
	least := data.reference.min_build
	is_number(build)
	build < least
}

# Beyond this many releases of one secret, the next waits for the owner.
release_limit := data.reference.max_releases
