# Milan and later.
package release.case

import data.keyward.platform

default allow := false

allow if platform.product_in({"milan", "genoa", "turin"})

allow_launch if platform.product_in({"milan", "genoa", "turin"})
