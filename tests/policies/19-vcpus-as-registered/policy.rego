# What the workload says, where it says something.
package release.case

import data.keyward.vcpus

default allow := false

allow if {
	is_number(input.workload.vcpus)
	vcpus.vcpus_proved(input.workload.vcpus)
}
