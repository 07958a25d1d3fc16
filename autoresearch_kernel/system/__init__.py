"""What does the operating system offer? Durable files, locks, processes, disk space, the machine and its speed.

This room contains nothing about studies. Others use `files` (durable writes, locks), `processes` (ending every process
of a run), `environment` (variables of a child process), `untrusted_files`, `disk`, `machine`, `measuring`, `speed`,
`clock`, `locations` and `shell`.
"""
