# Each generation of processors has its own oldest build.
package release.case

import data.keyward.sev

default allow := false

allow if {
	oldest := data.oldest[input.platform.product]
	sev.build_at_least(oldest)
}
