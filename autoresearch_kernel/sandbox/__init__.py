"""What may an agent's code touch? The policy of a sandbox, and the kinds of sandbox that a machine has.

Others use `kinds.require_sandbox` (the kind that works here), `kinds.wrap_training` and `kinds.scorer_options`
(commands that start in it), and `watchdog` (limits of memory, processes and disk while it runs).
"""
