"""Run the command line: aecli, and python -m aecli."""

import signal


def main() -> None:
    """Run the program. During imports and after the end, Ctrl-C ends it silently by the signal."""
    answers = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # False in a background job
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
