package release.disk

deny contains "never" if input.owner == "acme"
