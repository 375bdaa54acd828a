# A limit per workload, with a default.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

release_limit := object.get(data.limits, input.workload.name, 0)
