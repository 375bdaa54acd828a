# Only secrets of the workload's own name.
package release.case

import data.keyward.sev

default allow := false

allow if {
	sev.no_debug
	every name in input.secrets {
		startswith(name, sprintf("%s/", [input.workload.name]))
	}
}
