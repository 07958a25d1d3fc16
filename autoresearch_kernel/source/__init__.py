"""What does a train.py say? It is read here as text: syntax, parameters, gate, comparison, difference and merge.

Pure. Other rooms use `parameters.read_parameters` and `set_parameters`, `compare.fingerprint`, `literal_changes` and
`subjects`, `diff.diff` and `rebase`, `gate.check_cells` (through `run/notebook.py`) and `check_clock`,
`encoding.decode_source`, `seeds.seeds_itself`, `adopt.convert.adopt` and `cell.SourceError`.
"""
