"""What is on the disk of a study? The names of its files, its history, study.json, hashes, git refs and curves.

`history.History` is the only writer of history.jsonl, which is the only truth. `study.Study` is a study as it began;
`paths` knows the names of its files, `git.Lineage` its commits, `provenance` what a score depends on.
"""
