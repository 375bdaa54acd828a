package release.disk.web

x := 1
