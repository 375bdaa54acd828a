# An exception has a name, a reason and an end.
package release.case

import data.keyward.sev

default allow := false

allow if sev.build_at_least(21)

allow if {
	some exception in data.exceptions
	exception.workload == input.workload.name
	sev.build_at_least(exception.build)
	time.parse_rfc3339_ns(input.time) < time.parse_rfc3339_ns(exception.until)
}
