# The signing key only on a guest that can't be sent.
package release.case

import data.keyward.sev

default allow := false

allow if {
	sev.no_debug
	not _stricter
}

allow if {
	_stricter
	sev.no_debug
	sev.no_send
}

_stricter if input.secret == "signing/key"
