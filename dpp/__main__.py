"""`python -m dpp` is the command `dpp`."""

from dpp.cli.main import main

if __name__ == "__main__":
    main()
