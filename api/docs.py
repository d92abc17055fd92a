"""The page at /docs. Its scripts come from the package `fastapi-offline`, so that it works without a network.

Only that package's files are used: it carries Swagger UI 5, which reads the OpenAPI 3.1 that FastAPI writes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PATH = "/docs"
ASSETS_PATH = "/docs/assets"
SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"


def installed_assets() -> Path | None:
    """The folder with the page's scripts; None where the package is not installed."""
    found = importlib.util.find_spec("fastapi_offline")
    folder = Path(found.origin).parent / "static" if found and found.origin else None
    return folder if folder and (folder / SCRIPT).exists() else None


def add_page(app: FastAPI, assets: Path | None) -> None:
    """Serve the page. Without `assets` the browser is sent to Swagger UI's public address for the scripts."""
    if assets is not None:
        app.mount(ASSETS_PATH, StaticFiles(directory=assets), name="docs-assets")

    @app.get(PATH, include_in_schema=False)
    async def page() -> HTMLResponse:
        schema, title = str(app.openapi_url), f"{app.title}: the HTTP API"
        if assets is None:
            return get_swagger_ui_html(openapi_url=schema, title=title)
        return get_swagger_ui_html(
            openapi_url=schema,
            title=title,
            swagger_js_url=f"{ASSETS_PATH}/{SCRIPT}",
            swagger_css_url=f"{ASSETS_PATH}/{STYLE}",
            swagger_favicon_url=f"{ASSETS_PATH}/{ICON}",
        )
