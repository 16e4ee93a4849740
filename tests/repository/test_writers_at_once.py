"""Several processes that change one folder of models at once: each change is whole, and none is lost."""

import os
import subprocess
import sys
from pathlib import Path

from edge_mcp.repository.kept import is_intact
from edge_mcp.repository.versions import Versions
from tests.cli.command import ROOT
from tests.repository.power_loss import MANIFEST, write_model

WRITER = """
import sys
from pathlib import Path
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.versions import Versions
repository, name, source = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
versions = Versions(repository)
for _ in range(10):
    for number in ("1.0.0", "2.0.0"):
        versions.commit(versions.stage(Dropped(name, source / number, "", False)), allow_downgrade=True)
    versions.collect()
"""


def test_several_writers_at_once(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    names = ["net", "net", "other"]
    for index, name in enumerate(names):
        for number in ("1.0.0", "2.0.0"):
            (tmp_path / str(index)).mkdir(exist_ok=True)
            write_model(tmp_path / str(index) / number, number)
            (tmp_path / str(index) / number / "model.toml").write_text(MANIFEST.format(version=number).replace("net", name, 1))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(repository), name, str(tmp_path / str(index))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        for index, name in enumerate(names)
    ]
    for writer in writers:
        assert (writer.communicate(timeout=120)[1], writer.returncode) == (b"", 0)
    state = Versions(repository).state()
    assert sorted(state.models) == ["net", "other"]
    for name, model in state.models.items():
        assert (model.highest, model.added) == ("2.0.0", True)
        places = {version.folder: repository / ".edge-mcp/versions" / name / version.folder for version in model.versions}
        assert model.active in places
        assert all(is_intact(places[version.folder], version) for version in model.versions)
        assert set(places) == {path.name for path in (repository / ".edge-mcp/versions" / name).iterdir()}
    assert list((repository / ".edge-mcp/staging").iterdir()) == []
