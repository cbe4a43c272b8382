"""``python -m jtf.report``."""

import sys

from jtf.report import main

if __name__ == "__main__":
    sys.exit(main())
