"""Built pages come in; what they would load from the network goes out."""

from __future__ import annotations

import pytest

from docs._extensions.offline import find_loaded


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://cdn.example/a.js">',
        "<img src='//example.org/a.png'>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "@import 'https://fonts.example/css'",
        "src: url(https://fonts.example/a.woff2)",
    ],
)
def test_what_is_loaded_is_found(text):
    assert len(find_loaded(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://example.org">a link to follow</a>',
        '<script src="_static/furo.js">',
        '<link rel="stylesheet" href="_static/pages.css">',
        '<link rel="canonical" href="https://docs.example/">',
        '<svg xmlns="http://www.w3.org/2000/svg">',
        "background: url(data:image/png;base64,AAAA)",
    ],
)
def test_what_is_followed_or_local_is_not(text):
    assert find_loaded(text) == []
