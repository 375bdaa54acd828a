package release.disk

allow.disk if input.owner == "acme"
