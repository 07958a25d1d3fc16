"""Who proposes the next experiment? The optimiser, a language model, a mixture of both, a replay, a person.

`options` makes the agent of a study. Each agent turns a core.types.Context into a Proposal and nothing else.
"""
