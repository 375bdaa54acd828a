package release.disk

import input.atested as proved

default allow := false

allow if proved.policy_bits.no_debug == true
