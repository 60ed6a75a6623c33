"""`python -m effgen`: the command line."""

from effgen.cli import main

if __name__ == "__main__":
    main()
