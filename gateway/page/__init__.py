"""The local status page: what the gateway does now, for a browser, and the same figures for Prometheus. Read-only.

Off unless `[page]` names an address. It answers from the documents of the verbs that `meter-gateway status` asks
(`looks`), and reckons nothing itself. Files: `page` (the actor, and what stands at which path), `server` (bounded HTTP
over sockets), `http` (PURE: one request, one answer), `looks`, `view` with `campaigns`, `meters` and `cells` (HTML),
`markup` (text that cannot but be escaped), `metrics` (Prometheus), `static/`.
"""

from gateway.page.page import StatusPage

__all__ = ["StatusPage"]
