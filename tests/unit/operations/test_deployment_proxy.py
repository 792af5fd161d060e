"""The proxy of docker-compose.yml: what it passes on, and that it fits the server behind it."""

import json
import re
from http import HTTPStatus
from ipaddress import ip_network
from pathlib import Path

import yaml

from producers.accounts import client_addresses
from producers.web import app, bounds, connections, problems, streams
from producers.web.accounts import login_pages
from shared.settings import Settings

COMPOSE = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yml").read_text())
PROXY, WEB = (COMPOSE["services"][name] for name in ("proxy", "web"))
KB = 1024


def interpolated(text: str, **variables: str) -> str:
    """The text as Compose passes it on."""
    text = re.sub(
        r"\$\{(\w+):([+-])([^}]*)\}",
        lambda it: (
            (it[3] if it[1] in variables else "") if it[2] == "+" else variables.get(it[1], it[3])
        ),
        text,
    )
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text), "Compose would read a variable"
    return text.replace("$$", "$")


CONFIG = interpolated(PROXY["environment"]["NGINX_CONF"])
LOCATIONS = dict(re.findall(r"location ([^{]+?) \{([^}]*)\}", CONFIG))


def location_of(path: str) -> str:
    """The block for a path, chosen as nginx does: exact, then patterns in order, then prefixes."""
    exact = LOCATIONS.get(f"= {path}")
    if exact is not None:
        return exact
    for name, block in LOCATIONS.items():
        if name.startswith("~ ") and re.search(name[2:], path):
            return block
    prefixes = [name for name in LOCATIONS if name[0] == "/" and path.startswith(name)]
    return LOCATIONS[max(prefixes, key=len)]


def number(name: str, text: str = CONFIG) -> int:
    """The number of a setting, without its unit."""
    [found] = re.findall(rf"\b{name} (\d+)[smk]?;", text)
    return int(found)


def test_only_the_api_and_the_pages_to_log_in_are_passed_on():
    api = {route.path for router in app.ROUTERS for route in router.routes}  # type: ignore[attr-defined]
    passed = api | {login_pages.PATH, login_pages.BEGIN, login_pages.CALLBACK}

    for path in passed:
        assert "proxy_pass http://$web;" in location_of(re.sub(r"\{\w+\}", "it", path)), path
    for path in (
        "/",
        "/metrics",
        "/health",
        "/ready",
        "/openapi.json",
        "/loginx",
        "/v1",
        "/v2/jobs",
    ):
        assert location_of(path).strip() == "return 404;", path


def test_streams_are_not_kept_back_and_outlive_the_pause_between_heartbeats():
    for path in ("/v1/events", "/v1/runs/01a22ccd/text"):
        assert path.replace("01a22ccd", "{run_id}") in {
            route.path  # type: ignore[attr-defined]
            for router in app.ROUTERS
            for route in router.routes
        }
        assert "proxy_buffering off;" in location_of(path)
    assert number("proxy_read_timeout") > 2 * streams.HEARTBEAT_S


def test_an_upload_goes_through_as_it_comes_and_bodies_are_bounded_as_by_the_server():
    upload = location_of("/v1/documents")

    assert "proxy_request_buffering off;" in upload
    assert number("client_max_body_size", upload) * KB == bounds.UPLOAD_BYTES_MAX
    general = number("client_max_body_size", CONFIG.replace(upload, ""))
    assert general * KB * KB == bounds.BODY_BYTES_MAX


def test_too_large_a_body_is_refused_in_the_words_of_the_server():
    [said] = re.findall(r"return 413 '(.+)';", CONFIG)
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    ours = json.loads(problems.answer(status, "body_too_large", "The body is too large.").body)

    # Python 3.13 calls the status otherwise.
    assert json.loads(said) | {"title": status.phrase} == ours
    assert "error_page 413 @too_large;" in CONFIG


def test_the_proxy_is_as_patient_as_the_server():
    assert number("client_header_timeout") == connections.REQUEST_S
    for name in ("client_body_timeout", "send_timeout", "proxy_send_timeout"):
        assert number(name) == connections.READER_S, name


def test_the_server_believes_the_proxy_about_addresses_and_nobody_else():
    [front] = COMPOSE["networks"]["front"]["ipam"]["config"]
    trusted = interpolated(WEB["environment"]["AILYDIAN_TRUSTED_PROXIES"])
    known = client_addresses.proxies(Settings(trusted_proxies=trusted))

    assert list(known.trusted) == [ip_network(front["subnet"])]
    assert "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;" in CONFIG
    assert 'proxy_set_header Forwarded "";' in CONFIG


def test_without_a_certificate_only_this_machine_is_answered_in_plain_text():
    [port] = PROXY["ports"]
    tls = interpolated(PROXY["environment"]["NGINX_CONF"], AILYDIAN_TLS_PEM="tls.pem")

    assert interpolated(port) == "127.0.0.1:8080:8080"
    assert interpolated(port, AILYDIAN_PUBLISH="443") == "443:8080"
    assert interpolated(COMPOSE["secrets"]["tls_pem"]["file"]) == "/dev/null"
    assert "ssl" not in CONFIG
    assert "listen 8080 ssl;" in tls
    for name in ("ssl_certificate", "ssl_certificate_key"):
        assert f"{name} /run/secrets/tls_pem;" in tls
