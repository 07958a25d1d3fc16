"""What does the operating system offer? Durable files, locks, processes, disk space, the machine and its speed.

This room knows no study. Others use `files` (durable writes, locks), `processes` (nothing outlives its run),
`environment` (what a child process may know), `untrusted_files`, `disk`, `machine`, `speed`, `locations` and `shell`.
"""
