"""`python -m autoresearch_kernel -f CONNECTION_FILE`: the Jupyter kernel itself."""

from __future__ import annotations

if __name__ == "__main__":
    import sys

    from autoresearch_kernel.run.kernel import main
    from autoresearch_kernel.system.explain import run_main

    sys.exit(run_main(main, "The kernel autoresearch"))
