"""Entry point of ``python -m fusepipe``."""

from fusepipe.cli import main

if __name__ == "__main__":
    main()
