# SEV-ES only.
package release.case

import data.keyward.sev

default allow := false

allow if sev.es

deny contains sprintf("scheme %s, expected amd-sev-es", [input.scheme]) if input.scheme != "amd-sev-es"
