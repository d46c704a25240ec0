"""What is generated of the documentation: `make docs` writes it, tests/docs holds the files to it.

A generator is a module here with `pages()`: the text of each page by its path from the top of the checkout.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def generated() -> dict[str, str]:
    """Every generated page, by its path from the top of the checkout."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if not name.startswith("_")]
    return {
        path: text for module in modules if hasattr(module, "pages") for path, text in module.pages().items()
    }
