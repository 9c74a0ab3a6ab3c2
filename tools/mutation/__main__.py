"""python -m tools.mutation: see run.py. Workers import that one by its name."""

from .run import main

if __name__ == "__main__":
    main()
