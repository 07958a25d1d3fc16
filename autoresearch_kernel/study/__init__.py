"""How does a study run? Its steps, their order, what people ask of it while it runs, and its end.

This room is the only writer of the record. `loop.research` runs a study, `session.open_session` holds one open,
`create.start_study` begins one, `finish.finish` measures its result.
"""
