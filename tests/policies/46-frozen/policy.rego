# A switch in data that stops everything.
package release.case

import data.keyward.sev

default allow := false

allow if sev.no_debug

deny contains data.frozen if data.frozen != ""

deny_launch contains data.frozen if data.frozen != ""
