package release.disk

import data.keyward.platform

default allow := false

allow if {
	platform.oca_in(["aa"])
	image := input.attested.image
	image.vcpus <= 4
}
