"""`python -m autoresearch_kernel -f CONNECTION_FILE`: the Jupyter kernel itself."""

from __future__ import annotations

if __name__ == "__main__":
    from autoresearch_kernel.run.kernel import main

    main()
