"""HTML that is escaped by construction: what is not marked as markup is text, and shown as text. Pure."""

from __future__ import annotations

from html import escape

from gateway.words import printable

_VOID = frozenset({"link", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(name: str, /, *inner: object, **attributes: str | int | bool | None) -> Html:
    """An element. `inner` may be text, numbers and Html; None and "" are left out. An attribute that is
    True stands alone, one that is False or None is left out; `class_` and `data_at` are `class` and `data-at`."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{joined(*inner)}</{name}>")


def joined(*parts: object) -> Html:
    """One after the other."""
    return Html("".join(_text(part) for part in parts if part is not None))


def _text(value: object) -> str:
    """Control characters as Python writes them (invariant 13), then what means something in HTML."""
    return value if isinstance(value, Html) else escape(printable(str(value)))
