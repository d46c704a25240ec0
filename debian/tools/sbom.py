"""The package's bill of materials (CycloneDX 1.5, JSON), made from debian/control and pyproject.toml; to stdout.

What runs on a machine is the distribution's own build of each component, and changes with its updates: the versions
here are the lowest that will do, the exact ones are in dpkg's database.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/meter-gateway")
NAMES = {"pyserial": "serial", "systemd-python": "systemd"}
"""Debian's names of Python distributions, where they differ."""


def bill() -> dict[str, Any]:
    """The document. The same source and SOURCE_DATE_EPOCH give the same bytes."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    version, license_ = project["version"], project["license"]["text"]
    extras = project["optional-dependencies"]["systemd"]
    upstream = dict(_python(requirement) for requirement in [*project["dependencies"], *extras])
    packages = _depends(Path("debian/control").read_text("utf-8"))
    missing = upstream.keys() - packages.keys()
    if missing:
        raise SystemExit(f"pyproject.toml needs what debian/control does not depend on: {sorted(missing)}")
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    root = f"pkg:deb/debian/meter-gateway@{version}?arch=all"
    components = [
        _component(name, at_least, upstream.get(name)) for name, at_least in sorted(packages.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{version} {made.isoformat()}')}",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "meter-gateway",
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": license_}}],
                "purl": root,
            },
        },
        "components": components,
        "dependencies": [
            {"ref": root, "dependsOn": [component["bom-ref"] for component in components]},
            *({"ref": component["bom-ref"], "dependsOn": []} for component in components),
        ],
    }


def _python(requirement: str) -> tuple[str, str]:
    """Debian's package and PyPI's name of a requirement."""
    name = re.split(r"[<>=~!\[; ]", requirement, maxsplit=1)[0].lower()
    return f"python3-{NAMES.get(name, name)}", name


def _depends(control: str) -> dict[str, str]:
    """Package and lowest version ("": any) of what the binary package depends on; the first of alternatives."""
    field = re.search(r"^Depends:(.*(?:\n[ \t].*)*)", control, re.MULTILINE)
    found = {"python3": "3.11"}
    for entry in (field[1] if field else "").split(","):
        named = re.match(r"\s*([a-z0-9][a-z0-9.+-]*)(?:\s*\(>= ([^)]*)\))?", entry)
        if named:
            found[named[1]] = named[2] or ""
    return found


def _component(name: str, at_least: str, pypi: str | None) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{name}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "purl": purl,
        "scope": "required",
    }
    properties = [("debian:at-least", at_least), ("pypi:name", pypi or "")]
    component["properties"] = [{"name": key, "value": value} for key, value in properties if value]
    return component


if __name__ == "__main__":
    print(json.dumps(bill(), indent=2))
