"""Run the command line: python -m aecli."""

from aecli.cli import main

main()
