# `deny_launch` alone; without it the launch is left to the server.
package release.case

default allow := false

allow if input.attested.policy_bits.no_debug == true

deny_launch contains sprintf("API %d.%d is too old", [input.platform.api_major, input.platform.api_minor]) if {
	[input.platform.api_major, input.platform.api_minor] < [1, 50]
}
