"""The page: one HTML file with its data, its script and plotly.js inside. No JAX."""

import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from jtf.report.pack import compressed, pack_arrays
from jtf.results.run_directory import json_ready


def page_html(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the page of `content` (`report_content`) and `arrays` (`page_arrays`)."""
    return Template(_asset("template.html")).substitute(
        title=escape(content["title"]),
        style=_asset("page.css"),
        script=_asset("page.js"),
        content=script_json(content),
        arrays=pack_arrays(arrays),
        plotly=plotly_text(),
    )


def script_json(content: Mapping[str, Any]) -> str:
    """Return strict JSON that can stand inside a ``script`` element: no character of it ends the element."""
    text = json.dumps(json_ready(dict(content)), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def plotly_text() -> str:
    """Return plotly.js as gzip in base64: 4.8 MB become 1.9 MB."""
    script = resources.files("plotly") / "package_data" / "plotly.min.js"
    return compressed(script.read_bytes())


def _asset(name: str) -> str:
    return (resources.files("jtf.report") / name).read_text(encoding="utf-8")
