# METADATA
# title: Who gets the database's disk passphrase
package release.database

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
}

# Beyond this many releases of one secret, the next waits for the owner.
release_limit := data.reference.max_releases
