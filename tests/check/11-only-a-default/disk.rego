package release.disk

default allow := false

deny contains "node-7 only" if input.host.address != "192.0.2.7"
