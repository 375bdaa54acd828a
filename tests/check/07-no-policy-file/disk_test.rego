package release.disk_test

test_a if true
