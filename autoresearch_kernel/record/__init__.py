"""What is on the disk of a study? The names of its files, its history, study.json, hashes, git refs and curves.

`history.History` is the only writer of history.jsonl, from which everything else can be rebuilt. `study.Study` has the
facts that were fixed at the start, `paths` the names of the files, `git.Lineage` the commits, and `provenance` the
hashes of everything that a score depends on. `file_hashes` has those of the files. `bundle` opens a study that
is only read.
"""
