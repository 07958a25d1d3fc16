"""Does this program work on this device, and how fast is it there? `autoresearch gpu-check` writes a file to post.

`command.gpu_check` is what the command line uses, and `check.run_check` makes all steps in their order. `plan` has the
sizes for each kind of device, `in_torch` is the program that loads torch, and the other modules have the steps of one
subject each.
"""
