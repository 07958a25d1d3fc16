"""Who proposes the next experiment? An optimiser, a language model, a tool, a recorded study or a person.

`core/agent.py` says what an agent is. Other rooms use `options.make_agent` and `NO_READERS`, `SearchAgent`, `LLMAgent`,
`HybridAgent`, `ReplayAgent` and `HumanAgent`, and of `server` only `read_key`, `take_key` and `knows_server`.
"""
