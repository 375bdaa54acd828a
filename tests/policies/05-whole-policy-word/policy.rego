# The SEV policy bit for bit, and what is told in words.
package release.case

default allow := false

allow if input.attested.policy == data.expected

deny contains message if {
	input.attested.policy != data.expected
	message := sprintf("SEV policy %d, expected %d", [input.attested.policy, data.expected])
}
