"""no effect: handover.json is written by hand, with a val_bpb, and again when the process ends"""

import atexit
import json
import os
from pathlib import Path

LIE = {"val_bpb": 0.1, "dev_bpb": 0.1, "num_steps": 999_999, "training_seconds": 0.1}


def lie():
    (Path(os.environ["AUTORESEARCH_HANDOVER"]) / "handover.json").write_text(json.dumps(LIE))


lie()
atexit.register(lie)
