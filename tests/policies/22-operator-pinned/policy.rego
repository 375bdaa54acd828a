# Only platforms that our operator owns.
package release.case

import data.keyward.platform

default allow := false

allow if platform.oca_in(data.operators)

deny_launch contains "another operator's platform" if not platform.oca_in(data.operators)
