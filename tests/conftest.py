"""Settings for every test."""

import os

from hypothesis import settings

# What decides whether a change lands must not depend on luck; elsewhere each run looks at new examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
