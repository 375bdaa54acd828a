# With `bits.and`, where the library has no name for a bit.
package release.case

default allow := false

allow if bits.and(input.attested.policy, 7) == 7
