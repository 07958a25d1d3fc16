"""no effect: the summary is printed before the score is known, and after it"""

print("val_bpb:          0.100000\ntraining_seconds: 1.0\nnum_steps:        999999")
