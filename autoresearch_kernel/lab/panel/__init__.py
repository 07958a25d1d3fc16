"""What does the control panel show? A view of a study's files, with a button for each action of `control`."""
