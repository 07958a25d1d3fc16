"""The command line of `python prepare.py`, which `autoresearch prepare` runs as well."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from prepare import PrepareError

from ..system.explain import run_main
from .build import CORPORA, build_corpus, look_at_files


def main(arguments: list[str] | None = None) -> int:
    """Build the corpus that the arguments describe, or look at its files; the exit status."""
    try:
        _act(vars(_parser().parse_args(arguments)))
    except KeyboardInterrupt:
        print("\nStopped. The unfinished corpus was removed.", file=sys.stderr)
        return 130
    return 0


def _act(options: dict[str, Any]) -> None:
    is_look, given = options.pop("look"), options["files_folder"]
    options["corpus"] = options["corpus"] or ("files" if given else "packages")
    if options["corpus"] != "files":
        for name, value in (("--files-folder", given), ("--text-key", options["text_key"]), ("--look", is_look)):
            if value:
                need = " Name your folder or file with --files-folder." if given is None else ""
                raise PrepareError(f"{name} belongs to --corpus files, not to --corpus {options['corpus']}.{need}")
    if is_look:
        look_at_files(given, options["text_key"], options["sequence_length"])
    else:
        build_corpus(**options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prepare.py", description="Make a corpus: documents, tokenizer and splits.")
    parser.add_argument("--corpus", choices=CORPORA, help="packages by default; files with --files-folder")
    parser.add_argument("--files-folder", metavar="DIR", help="your folder of texts, or one file: --corpus files")
    parser.add_argument("--text-key", metavar="KEY", help="key of JSON lines, or Parquet column, with the text: `text`")
    parser.add_argument("--look", action="store_true", help="say what would be read and left out; write nothing")
    parser.add_argument("--vocab-size", type=int, default=2048, metavar="N")
    parser.add_argument("--sequence-length", type=int, default=256, metavar="T")
    parser.add_argument("--eval-tokens", type=int, metavar="N", help="tokens in the validation rows, at most")
    parser.add_argument("--num-shards", type=int, metavar="N", help="training shards of climbmix; 10 by default")
    parser.add_argument("--home", metavar="DIR", help="where corpora go; ~/.cache/autoresearch by default")
    parser.add_argument("--rebuild", action="store_true", help="make it again though it is there")
    return parser


def run(arguments: list[str] | None = None) -> int:
    """`main` as a program: every other error is explained in one sentence, too."""
    return run_main(lambda: main(arguments), "prepare.py")


if __name__ == "__main__":
    sys.exit(run())
