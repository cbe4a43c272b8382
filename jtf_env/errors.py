"""What this package raises when the *user's* input is at fault; anything else that escapes is a bug."""


class InputError(ValueError):
    """Base of every error a user can cause here: one sentence naming what, where and the remedy."""


class BarsError(InputError):
    """The bars cannot be used as they are (file, row and timestamp are named in the message)."""


class LayoutError(InputError):
    """A layout name, an observation size or a layout hash that does not exist or does not match."""


class ParamsError(InputError):
    """An environment parameter outside its range (the field is named in the message)."""
