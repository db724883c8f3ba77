"""Who may ask the dashboard, and what its answers may do in a browser.

- Only GET and HEAD: nothing here changes anything.
- The Host header must name this server, so that a page of another site cannot reach it through a name of its own
  that resolves to 127.0.0.1 (DNS rebinding).
- Where the server listens beyond this machine, a token is needed: as `?token=...` once, from then on as a cookie.
- The Content-Security-Policy lets a page load and run nothing but this server's own files.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rlcs_token"
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """An ASGI layer around the application."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass, or None."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("The dashboard only shows: GET and HEAD.\n", status_code=405)
        if not is_host(headers.get("host", ""), self._hosts):
            return PlainTextResponse("This address is not one of this server's.\n", status_code=421)
        if self._token is None or self._has_cookie(headers):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given and secrets.compare_digest(given[0].encode(), self._token.encode()):
            # The token leaves the address at once, so that it is in no history and no Referer.
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = "/" + scope["path"].lstrip("/\\")  # never //another.host
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), status_code=303)
            answer.set_cookie(COOKIE, _proof(self._token), httponly=True, samesite="strict", path="/")
            return answer
        return PlainTextResponse("A token is needed: open the link that `rlcs dashboard` printed.\n", status_code=401)

    def _has_cookie(self, headers: Headers) -> bool:
        assert self._token is not None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), _proof(self._token).encode())


def is_host(header: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header names one of `hosts`; with "*" among them, any IP address does, too."""
    name = header.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    else:
        name = name.partition(":")[0]
    if name in hosts:
        return True
    if "*" not in hosts:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def known_hosts(host: str) -> frozenset[str]:
    """The names under which a server on `host` may be asked."""
    local = {"127.0.0.1", "localhost", "::1"}
    if host in ("0.0.0.0", "::"):  # nosec B104 # noqa: S104
        import socket

        return frozenset({*local, socket.gethostname().lower(), socket.getfqdn().lower(), "*"})
    return frozenset({*local, host.lower()})


def is_local(host: str) -> bool:
    """Whether a server on `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proof(token: str) -> str:
    """What the cookie holds: it shows that the token was known, and is not the token."""
    return hashlib.sha256(f"rlcs-dashboard:{token}".encode()).hexdigest()
