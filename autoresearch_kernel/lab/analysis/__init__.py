"""What did a study find? Gains, pace, what was tried, and pictures of these."""
