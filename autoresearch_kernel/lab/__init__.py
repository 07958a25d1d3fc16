"""What do people see and use in a notebook? One experiment step by step, the analysis of a study, the panel.

`study.open_study` and `start_study` give a study to walk through; `analysis.load.analyse` looks back on one;
`panel.panel.panel` is the control panel.
"""
