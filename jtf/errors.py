"""One sentence on stderr and exit code 2 for everything a user can cause; a traceback is a bug."""

import errno
import os
import sys
from collections.abc import Callable

from jtf_env.errors import InputError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""What a shell reports of a command whose reader went away, e.g. ``| head -1``: 128 + SIGPIPE."""


class UserError(ValueError):
    """A mistake in what was typed or in the files it names: one sentence with what, where and the remedy."""


def user_errors() -> tuple[type[Exception], ...]:
    """Every exception class that stands for a user's mistake.

    The learner's errors count only once the learner is loaded: commands that need no JAX must not load it.
    """
    learner = sys.modules.get("jtf_ppo.errors")
    return (UserError, InputError) if learner is None else (UserError, InputError, learner.LearnerError)


def describe_os_error(error: OSError) -> str:
    """Return one sentence for a file-system error: what, which file, and the remedy."""
    where = f" {error.filename!r}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full, writing{where} failed; free some space, earlier checkpoints are intact."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"access to{where} is denied ({error.strerror}); choose another folder, e.g. with --out."
    return f"the file system refused{where}: {error.strerror or error}."


def run_command(command: Callable[[], int | None]) -> int:
    """Run `command` and return its exit code; a user's mistake is printed as one sentence, code 2.

    Output nobody reads any more ends the command silently.
    """
    try:
        try:
            return _exit_code(command)
        finally:
            if sys.stdout is not None:  # A caller may have closed it (``>&-``).
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail again while Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _exit_code(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except user_errors() as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
    return EXIT_USER_ERROR
