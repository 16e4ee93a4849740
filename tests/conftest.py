"""Settings for every test."""

import os
import tempfile

from hypothesis import settings

# What decides whether a change lands must not depend on luck; elsewhere each run looks at new examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# Models and a token of whoever runs the tests are no part of them.
_home = tempfile.TemporaryDirectory(prefix="edge-mcp-tests-")
os.environ["XDG_DATA_HOME"] = _home.name
os.environ["XDG_CONFIG_HOME"] = f"{_home.name}/config"
