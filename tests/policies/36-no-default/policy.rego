# Without a default `allow` is undefined, and denies as an error.
package release.case

import data.keyward.sev

allow if sev.es
