# Two generations of an image.
package release.case

default allow := false

allow if input.attested.image.name in {"database-2026-01", "database-2025-12"}
