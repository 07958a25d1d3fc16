"""What are an experiment, a run and a proposal, what follows from the events, and when is a change kept?

Pure: values in, values out; no file, no process, no clock.

`types` and `agent` have the types that all rooms use. `state.replay` folds events into a StudyState. `decide`, `drift`,
`early_stopping` and `overtime` have the rules, and `next_step` says what comes next. `attribution` says which kept
changes carry the gain; `playback` and `quiz` play a record again. `sanitize`, `markdown`, `errors`
and `format` give untrusted values and texts, messages and numbers one form.
"""
