package release.disk

allow(owner) if owner == "acme"
