"""The corpora that are downloaded, climbmix and tinystories, and the download of one file: resumed and retried."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prepare import PrepareError

from .readers import need, parquet_texts
from .sources import Document, Source

CLIMBMIX = "karpathy/climbmix-400b-shuffle"
CLIMBMIX_HELDOUT = 6542  # the last shard, held out by the original program too
TINYSTORIES = "karpathy/tinystories-gpt4-clean"


def climbmix_source(downloads: Path, num_shards: int, log: Callable[[str], None]) -> Source:
    """Web text in shards of about 90 MB: the first `num_shards` to train on, the original's pinned one held out."""

    def documents() -> Iterator[Document]:
        shards = (*range(num_shards), CLIMBMIX_HELDOUT)
        paths = [fetch(CLIMBMIX, f"shard_{shard:05d}.parquet", downloads, log) for shard in shards]
        for shard, path in zip(shards, paths, strict=True):
            for i, text in enumerate(parquet_texts(path)):
                if text:
                    yield Document(_split_of_climbmix(shard, i), text, f"{path.name}, row {i}")

    if not 1 <= num_shards <= CLIMBMIX_HELDOUT:
        raise PrepareError(f"{num_shards} shards: choose 1 to {CLIMBMIX_HELDOUT}.")
    return Source("climbmix", documents, {"num_shards": num_shards})


def _split_of_climbmix(shard: int, row: int) -> str:
    if shard == CLIMBMIX_HELDOUT:
        return "test" if row % 5 == 4 else "val"
    return "dev" if row % 1000 == 0 else "train"


def tinystories_source(downloads: Path, log: Callable[[str], None]) -> Source:
    """Short stories, one file of 640 MB, split by row as its author suggests: 10,000 test, 10,000 val, then train."""

    def documents() -> Iterator[Document]:
        path = fetch(TINYSTORIES, "tinystories_gpt4_clean.parquet", downloads, log)
        for i, text in enumerate(parquet_texts(path)):
            if text:
                split = "test" if i < 10_000 else "val" if i < 20_000 else "dev" if i % 1000 == 0 else "train"
                yield Document(split, text, f"{path.name}, row {i}")

    return Source("tinystories", documents, {})


def fetch(
    repository: str, name: str, downloads: Path, log: Callable[[str], None], attempts: int = 5, wait: float = 1.0
) -> Path:
    """One parquet file of a dataset on the Hugging Face hub ($HF_ENDPOINT), downloaded once; resumed, and retried.

    Waits `wait` seconds after the first failure and doubles it after each. Raises PrepareError in the end, or at once
    for what no retry helps. A full disk passes through as OSError.
    """
    need("huggingface_hub", "pyarrow")
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    folder = downloads / repository.replace("/", "--")
    hub_url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    for attempt in range(1, attempts + 1):
        try:
            if not (folder / name).is_file():
                log(f"  downloading {name} of {repository}")
                hf_hub_download(repository, name, repo_type="dataset", local_dir=folder, endpoint=hub_url)
            _check_parquet(folder / name)
            return folder / name
        except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.RemoteEntryNotFoundError) as error:
            raise PrepareError(f"{hub_url} has no {name} in {repository}: {_first_line(error)}") from error
        # hf_xet, which transfers the data, reports its failures as RuntimeError.
        except (hub.HTTPError, OSError, ValueError, RuntimeError) as error:  # type: ignore[attr-defined]
            if is_full_disk(error):
                raise
            if attempt == attempts:
                raise PrepareError(
                    f"Could not download {name} of {repository} from {hub_url} in {attempts} attempts: "
                    f"{_first_line(error)} Check the network and run again: what has arrived is kept."
                ) from error
            log(f"  attempt {attempt} of {attempts} failed ({_first_line(error)}); again in {wait:.0f} s")
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for want of space, or at this process's limit on the size of a file.

    hf_xet raises RuntimeError, whose message alone has the number of the error.
    """
    if isinstance(error, OSError):
        number = error.errno
    else:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _check_parquet(path: Path) -> None:
    """Remove a download that is not parquet from end to end, and raise ValueError."""
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_metadata(path)
    except (pyarrow.ArrowException, OSError) as error:
        path.unlink()
        raise ValueError(f"{path.name} arrived broken: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
