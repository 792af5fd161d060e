"""AILYDIAN_WEB_CORS_ORIGINS: exact origins, as browsers send them, or none."""

import pytest

from producers.web import cors
from shared.errors import ConfigurationBroken


@pytest.mark.parametrize(
    ("setting", "origins"),
    [
        ("", []),
        ("  ", []),
        ("https://console.example.org", ["https://console.example.org"]),
        ("http://localhost:3000, https://a.b", ["http://localhost:3000", "https://a.b"]),
        ("http://[::1]:8080", ["http://[::1]:8080"]),
    ],
)
def test_exact_origins_are_taken(setting, origins):
    assert cors.origins(setting) == origins


@pytest.mark.parametrize(
    "setting",
    [
        "*",
        "https://*.example.org",
        "null",
        "console.example.org",
        "https://console.example.org/",
        "https://Console.example.org",
        "https://console.example.org:443",
        "http://console.example.org:80",
        "https://console.example.org:0",
        "https://console.example.org:65536",
        "https://user@console.example.org",
        "ftp://console.example.org",
        "https://-a.example.org",
        "https://a..b",
        "https://a,",
        "https://a b",
    ],
)
def test_anything_else_is_refused_by_name(setting):
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_WEB_CORS_ORIGINS: "):
        cors.origins(setting)
