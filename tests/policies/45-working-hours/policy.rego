# Releases on weekdays from 6 to 20 UTC.
package release.case

import data.keyward.sev

default allow := false

allow if {
	sev.no_debug
	_open
}

_open if {
	now := time.parse_rfc3339_ns(input.time)
	not time.weekday(now) in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock(now)
	hour >= 6
	hour < 20
}

deny contains "outside of working hours" if not _open
