# The machines that were bought, by the ids that AMD's service vouches for.
package release.case

import data.keyward.platform

default allow := false

allow if platform.chip_in(data.chips)
