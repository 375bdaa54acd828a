# The host must not read the guest's memory.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

deny contains "the host may debug this guest" if input.attested.policy_bits.no_debug == false
