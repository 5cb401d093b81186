"""Run the command line: aecli, and python -m aecli."""

import signal


def main() -> None:
    """Run the program. While it still imports, and once it is done, a Ctrl-C ends it by the signal, without a word."""
    answers = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not of a background job
    if answers:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from aecli import cli

    try:
        cli.main()
    finally:
        if answers:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
