# The machines of one rack, by their CEKs.
package release.case

import data.keyward.platform

default allow := false

allow if platform.cek_in(data.racks.seven)
