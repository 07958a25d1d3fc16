"""What do people see and use in a notebook? The steps of an experiment, the analysis of a study, the panel.

`opening.open_study`, `analysis.load.analyse` and `panel.panel.panel` open them.
"""
