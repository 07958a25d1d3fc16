"""What are an experiment, a run and a proposal, what follows from the events, and when is a change kept?

Pure: values in, values out; no file, no process, no clock.

`types` and `agent` are the words that all rooms use. `state.replay` folds events into a StudyState. `decide`, `drift`,
`early_stopping` and `overtime` hold the rules, `next_step` what comes next. `sanitize`, `errors` and `format` keep
foreign values, messages and numbers in one form.
"""
