# Every condition that fails is told.
package release.case

default allow := false

allow if count(deny) == 0

deny contains sprintf("%s is off", [bit]) if {
	some bit in {"no_debug", "no_key_sharing", "es"}
	input.attested.policy_bits[bit] == false
}
