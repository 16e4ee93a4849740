"""The manifest for Kubernetes, by Kubernetes' own schema, and the build file: they agree with each other."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import referencing
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "scripts/image"
VERSION = "1.37.0"
"""Of Kubernetes."""
WHEELS = {
    f"kubernetes-validate=={VERSION}": "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
    "PyYAML==6.0.3": "0f29edc409a6392443abf94b9cf89ce99889a1dd5376d94316ae5145dfedd5d6",
}
"""Read as they are, since unpacked they are 17000 files: what is needed of them is two schemas and a parser."""


@pytest.fixture(scope="module")
def wheels() -> dict[str, Path]:
    """The wheels by the name of their package, got once and kept in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-mcp-tests" / "kubernetes"
    found = {}
    for requirement, digest in WHEELS.items():
        folder = cache / digest
        if not list(folder.glob("*.whl")):
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(folder),
                *PLAIN,
                requirement,
            ]
            subprocess.run(command, check=True, timeout=300)
        (wheel,) = folder.glob("*.whl")
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
        found[requirement.partition("=")[0]] = wheel
    return found


PLAIN = ("--only-binary=:all:", "--python-version=3.13", "--implementation=cp", "--platform=manylinux2014_x86_64")


@pytest.fixture(scope="module")
def daemon_set(wheels: dict[str, Path]) -> Any:
    """The manifest. PyYAML comes out of its wheel, without its part in C."""
    sys.path.insert(0, str(wheels["PyYAML"]))
    try:
        return importlib.import_module("yaml").safe_load((IMAGE / "edge-mcp.yaml").read_text("utf-8"))
    finally:
        sys.path.remove(str(wheels["PyYAML"]))


@pytest.fixture(scope="module")
def judge(wheels: dict[str, Path]) -> jsonschema.Draft202012Validator:
    """Knows every field that a DaemonSet may have, and lets no other pass."""
    folder = f"kubernetes_validate/kubernetes-json-schema/v{VERSION}-local-strict"

    def read(uri: str) -> referencing.Resource[Any]:
        with zipfile.ZipFile(wheels["kubernetes-validate"]) as archive:
            content = json.loads(archive.read(f"{folder}/{Path(uri).name}"))
        return DRAFT202012.create_resource(content)

    registry: referencing.Registry[Any] = referencing.Registry(retrieve=read)  # type: ignore[call-arg]
    return jsonschema.Draft202012Validator({"$ref": "daemonset-apps-v1.json"}, registry=registry)


def container(daemon_set: Any) -> Any:
    (only,) = daemon_set["spec"]["template"]["spec"]["containers"]
    return only


def test_kubernetes_takes_the_manifest(daemon_set: Any, judge: jsonschema.Draft202012Validator) -> None:
    judge.validate(daemon_set)


def test_the_schema_finds_a_field_that_is_none(daemon_set: Any, judge: jsonschema.Draft202012Validator) -> None:
    broken = json.loads(json.dumps(daemon_set))
    container(broken)["livenesProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="livenesProbe"):
        judge.validate(broken)


def test_the_pod_may_do_nothing_that_it_need_not(daemon_set: Any) -> None:
    pod = daemon_set["spec"]["template"]["spec"]
    secured = container(daemon_set)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert secured["readOnlyRootFilesystem"] and not secured["allowPrivilegeEscalation"] and not secured["privileged"]
    assert secured["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]


def test_the_manifest_is_of_the_image(daemon_set: Any) -> None:
    build = (IMAGE / "Containerfile").read_text("utf-8")
    pod = daemon_set["spec"]["template"]["spec"]
    only = container(daemon_set)
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in build
    assert f"EXPOSE {only['ports'][0]['containerPort']}/tcp\n" in build
    mounted = {mount["name"]: mount["mountPath"] for mount in only["volumeMounts"]}
    assert f"STATE_DIRECTORY={mounted['state']} " in build and f"CREDENTIALS_DIRECTORY={mounted['token']} " in build
    assert {volume["name"] for volume in pod["volumes"]} == set(mounted)
    assert {only[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {"/health"}
    assert daemon_set["spec"]["selector"]["matchLabels"].items() <= daemon_set["spec"]["template"]["metadata"]["labels"].items()


def test_what_is_copied_is_not_ignored() -> None:
    build = (IMAGE / "Containerfile").read_text("utf-8")
    kept = {line[1:] for line in (IMAGE / "Containerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    copied = set(re.findall(r"^COPY (?!--)(\S+)", build, re.M))
    assert copied == kept
    assert all((ROOT / path).exists() for path in copied)
    assert "--require-hashes" in build and "--only-binary=:all:" in build
