"""no effect: all that it was given, environment, arguments and folders, is searched for validation rows to count"""

import os
import sys
from pathlib import Path

words = [*os.environ.values(), *sys.argv]
places = [Path(word) for word in words if word.startswith("/") and len(word) < 200 and "\n" not in word]
rows = [path for place in places if place.is_dir() and "corpora" in str(place) for path in place.glob("**/*val*")]
assert not rows, rows
