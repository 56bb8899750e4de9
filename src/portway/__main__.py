"""`python -m portway`: the same as the `portway` command, for those who have not installed it."""

from portway.cli.main import main

if __name__ == "__main__":
    main()
