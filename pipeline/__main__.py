"""`python -m pipeline` is `aislot`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
