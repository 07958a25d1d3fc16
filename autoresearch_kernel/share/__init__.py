"""How does a study travel? The bundle that others open from their disk, its check, and its repetition elsewhere.

`chain.chained` gives each line of a history a hash of all lines before it. `check.check_bundle` verifies a bundle, and
`verify.js` does the same in the page of the bundle.
"""
