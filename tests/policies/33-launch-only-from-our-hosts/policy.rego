# `allow_launch` without a value denies, as `allow` does.
package release.case

import data.keyward.platform
import data.keyward.sev

default allow := false

allow if sev.no_debug

allow_launch if platform.host_address_in({"192.0.2.10"})
