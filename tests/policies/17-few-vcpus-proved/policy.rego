# Under SEV-ES the count is proved.
package release.case

import data.keyward.vcpus

default allow := false

allow if vcpus.vcpus_proved_at_most(4)
