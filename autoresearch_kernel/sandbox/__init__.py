"""What may an agent's code touch? The policy of a sandbox, and the kinds of sandbox that a machine has.

Others use `kinds.require_sandbox` (the kind that works here), `kinds.wrap` and `kinds.scorer_options` (commands that
start in it), `policy` (what a training and a scorer may use) and `watchdog` (limits of memory, processes and disk
space).
"""
