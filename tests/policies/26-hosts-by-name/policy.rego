# Hosts that showed a certificate.
package release.case

import data.keyward.platform

default allow := false

allow if platform.host_in({"node-7", "node-8"})
