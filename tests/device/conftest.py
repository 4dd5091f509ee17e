"""The tests in ``pretended`` need a process of their own, whose device is pretended; ``test_device.py`` starts it."""

import os

collect_ignore = [] if os.environ.get("PRETENDED_DEVICE") else ["pretended"]
