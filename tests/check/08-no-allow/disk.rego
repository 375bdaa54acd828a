package release.disk

allowed if input.owner == "acme"
