"""What this package raises when the user's settings or files are at fault; anything else that escapes is a bug."""


class LearnerError(ValueError):
    """Base of every error a user can cause here: one sentence naming what, where and the remedy."""


class ConfigError(LearnerError):
    """A PPO setting outside its range, or a combination of settings that cannot work."""


class CheckpointError(LearnerError):
    """A checkpoint that cannot be written or read; the message names the file and the cause."""


class DivergedError(LearnerError):
    """Three optimiser steps in a row had a non-finite loss or gradient; the message names the last good checkpoint."""
