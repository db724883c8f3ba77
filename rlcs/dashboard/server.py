"""`rlcs dashboard`: the pages over HTTP, and server-sent events that say when there is something new."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from rlcs.dashboard.figures.overview import AXES, compare_figures
from rlcs.dashboard.guard import Guard, is_local, known_hosts
from rlcs.dashboard.pages import PAGES, Explain, page_values
from rlcs.dashboard.pictures import picture_path
from rlcs.dashboard.render import environment
from rlcs.dashboard.store import Run, RunsFolder
from rlcs.dashboard.tiles import run_tiles, spark
from rlcs.errors import CheckpointError, ConfigError, RLCSError, one_line

STATIC = Path(__file__).parent / "static"
POLL_S = 1.0
"""How often a run is looked at for its followers."""


def create_app(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    explain: Explain | None = None,
    is_closing: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """The application over the runs in `folder`.

    `explain` says why a prompt is drawn now; streams of events end once `is_closing` says so.
    """
    site = _Site(RunsFolder(folder), explain, is_closing)
    app = Starlette(
        routes=[
            Route("/", site.runs),
            Route("/compare", site.compare),
            Route("/runs/{run}", site.to_overview),
            Route("/runs/{run}/events", site.events),
            Route("/runs/{run}/images/{digest}.jpg", site.image),
            Route("/runs/{run}/{page}", site.page),
            Mount("/static", _Static(directory=STATIC)),
        ],
        exception_handlers={
            HTTPException: site.not_found,
            RLCSError: site.problem,
            404: site.not_found,
            Exception: site.broken,
        },
    )
    return Guard(app, known_hosts(host), token)


def serve(folder: Path, *, host: str, port: int, explain: Explain | None = None) -> None:
    """Serve until Ctrl-C.

    Raises:
        ConfigError: the folder is missing, or the address cannot be used.
    """
    import socket

    import uvicorn

    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name the one that holds your runs, rlcs dashboard RUNS_DIR")
    token = None if is_local(host) else secrets.token_urlsafe(24)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}): choose another with --port or --host") from error
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")
    print(f"rlcs dashboard of {folder} at {address}  (Ctrl-C ends it)", flush=True)
    if token:
        print("Whoever has this link can read the runs; the connection is not encrypted.", flush=True)
    servers: list[uvicorn.Server] = []
    closing = partial(_is_closing, servers)
    app = create_app(folder, host=host, token=token, explain=explain, is_closing=closing)
    settings = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=5, server_header=False, proxy_headers=False
    )
    servers.append(uvicorn.Server(settings))
    servers[0].run(sockets=[listener])


def _is_closing(servers: Sequence[Any]) -> bool:
    return any(server.should_exit for server in servers)


class _Static(StaticFiles):
    """Files of this package; a browser may keep them for a while."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "max-age=3600" if path.startswith("vendor/") else "no-cache"
        return response


class _Html(HTMLResponse):
    """A page; what is no Unicode in it, as in the name of a file, is shown as a question mark."""

    def render(self, content: str) -> bytes:
        return content.encode(errors="replace")


class _Site:
    """The handlers of the routes. What reads files runs in threads."""

    def __init__(self, folder: RunsFolder, explain: Explain | None, is_closing: Callable[[], bool]) -> None:
        self._folder = folder
        self._explain = explain
        self._is_closing = is_closing

    def runs(self, request: Request) -> Response:
        """The list of runs."""
        rows = []
        for name in self._folder.names():
            try:
                rows.append(_row(self._folder.run(name)))
            except CheckpointError as error:
                rows.append({"name": name, "problem": str(error)})
        return _page(
            "runs.html",
            {
                "title": "Runs",
                "page": "runs",
                "runs": rows,
                "others": self._folder.others(),
                "folder": str(self._folder.path),
            },
        )

    def compare(self, request: Request) -> Response:
        """Several runs in the same plots."""
        names = list(dict.fromkeys(request.query_params.getlist("run")))[:12]
        if not names:
            return RedirectResponse("/", status_code=303)
        runs = [self._folder.run(name) for name in names]
        grouped = request.query_params.get("group") == "1"
        axis = request.query_params.get("x", "step")
        axis = axis if axis in AXES else "step"
        problems = [f"{run.name}: {run.problem}" for run in runs if run.problem]
        values = {
            "title": "Compare",
            "page": "compare",
            "names": names,
            "grouped": grouped,
            "axis": axis,
            "axes": AXES,
            "figures": compare_figures([run for run in runs if not run.problem], grouped=grouped, axis=axis),
            "notes": problems,
        }
        return _page("compare.html", values)

    def to_overview(self, request: Request) -> Response:
        """A run without a page."""
        return RedirectResponse(f"{request.url.path.rstrip('/')}/overview", status_code=303)

    def page(self, request: Request) -> Response:
        """A page of a run."""
        page = request.path_params["page"]
        if page not in dict(PAGES):
            raise HTTPException(404, f"a run has no page {page!r}")
        run = self._folder.run(request.path_params["run"])
        if run.problem:
            return _problem(run.problem, run, status=200)
        values = page_values(run, page, request.query_params, self._explain)
        return _page(f"{page}.html", {**values, "events": f"/runs/{quote(run.name)}/events"})

    def image(self, request: Request) -> Response:
        """A picture of a prompt."""
        path = picture_path(self._folder.run(request.path_params["run"]), request.path_params["digest"])
        if path is None:
            raise HTTPException(404, "the run has no such picture")
        return FileResponse(path, media_type="image/jpeg")

    async def events(self, request: Request) -> Response:
        """A stream that names the version of the run whenever it changes."""
        name = request.path_params["run"]
        run = await run_in_threadpool(self._folder.run, name)

        async def stream() -> AsyncIterator[str]:
            said, quiet = "", 0.0
            while not (self._is_closing() or await request.is_disconnected()):
                await run_in_threadpool(run.refresh)
                version = run.version
                if version != said:
                    said, quiet = version, 0.0
                    yield f"event: version\ndata: {version}\n\n"
                elif quiet >= 15:
                    quiet = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(POLL_S)
                quiet += POLL_S

        return StreamingResponse(stream(), media_type="text/event-stream")

    def not_found(self, request: Request, error: Exception) -> Response:
        """An address that is none."""
        detail = (
            error.detail
            if isinstance(error, HTTPException) and error.detail != "Not Found"
            else "There is no such page."
        )
        return _problem(detail, None, status=404)

    def problem(self, request: Request, error: Exception) -> Response:
        """A run that cannot be shown; the others still work."""
        return _problem(str(error), None, status=404)

    def broken(self, request: Request, error: Exception) -> Response:
        """A page that the server could not make; the traceback goes to its log."""
        return _problem(f"This page cannot be shown ({one_line(error, typed=True)}).", None, status=500)


def _row(run: Run) -> dict[str, Any]:
    columns = run.columns
    accuracy = next((tile for tile in run_tiles(run) if tile.name == "Held-out accuracy"), None)
    return {
        "name": run.name,
        "problem": run.problem,
        "state": run.state,
        "reward": columns.last("reward/mean", 10),
        "useful": columns.last("rollout/useful", 10),
        "accuracy": f"{accuracy.value} ({accuracy.more})" if accuracy else "–",
        "points": spark(columns.series("reward/mean")[1]),
    }


_DEFAULTS: dict[str, Any] = {"run": None, "state": None, "notes": [], "heading": None, "events": None, "version": ""}


def _page(template: str, values: dict[str, Any]) -> Response:
    return _Html(environment().get_template(template).render({**_DEFAULTS, **values}))


def _problem(text: str, run: Run | None, status: int) -> Response:
    values = {"title": "Not to be shown", "page": "problem", "problem": text, "heading": run.name if run else None}
    return _Html(environment().get_template("problem.html").render({**_DEFAULTS, **values}), status_code=status)
