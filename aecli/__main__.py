"""Run the command line: aecli, and python -m aecli."""

import signal


def main() -> None:
    """Run the program. Until it can answer a Ctrl-C, and while it still imports, it ends by that, without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from aecli import cli

    cli.main()


if __name__ == "__main__":
    main()
