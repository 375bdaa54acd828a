# No root of a laboratory.
package release.case

import data.keyward.platform

default allow := false

allow if platform.amd_root

deny contains sprintf("the chain ends in the root %q", [input.platform.root]) if input.platform.root != "amd"
