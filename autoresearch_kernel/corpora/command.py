"""The command line of `python prepare.py`, which `autoresearch prepare` runs as well."""

from __future__ import annotations

import argparse
import sys

from prepare import PrepareError

from .build import CORPORA, build_corpus


def main(arguments: list[str] | None = None) -> int:
    """Build the corpus that the arguments describe; the exit status."""
    parser = argparse.ArgumentParser(prog="prepare.py", description="Make a corpus: documents, tokenizer and splits.")
    parser.add_argument("--corpus", default="stdlib", choices=CORPORA)
    parser.add_argument("--files-folder", metavar="DIR", help="your folder, for --corpus files")
    parser.add_argument("--vocab-size", type=int, default=2048, metavar="N")
    parser.add_argument("--sequence-length", type=int, default=256, metavar="T")
    parser.add_argument("--eval-tokens", type=int, metavar="N", help="tokens in the validation rows, at most")
    parser.add_argument("--num-shards", type=int, metavar="N", help="training shards of climbmix; 10 by default")
    parser.add_argument("--home", metavar="DIR", help="where corpora go; ~/.cache/autoresearch by default")
    parser.add_argument("--rebuild", action="store_true", help="make it again though it is there")
    options = vars(parser.parse_args(arguments))
    try:
        build_corpus(**options)
    except PrepareError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return 0
