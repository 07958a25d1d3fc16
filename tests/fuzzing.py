"""How many examples a fuzzer tries: a sample in `make test`, 10,000 in `make faults`."""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("AUTORESEARCH_FUZZ_EXAMPLES", "100"))
