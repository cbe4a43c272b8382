"""Versions of what a policy was trained on; both are in `Layout.hash`, so in every policy file and checkpoint.

``docs/environment.md`` has the history of both. Raise one with every change that gives the same bars other numbers.
"""

FEATURES_VERSION = 2
"""Formulas of the columns (`jtf_env.layouts`)."""
ENV_VERSION = 2
"""Fills, costs, endings and rewards (``docs/environment.md``)."""
