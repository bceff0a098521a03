"""The signature, byte for byte against the vendor's own vectors, and the table of what may be asked at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from venues_htx_exchange import PlainSecret

from monitor.venues.htx import signing
from monitor.venues.htx.signing import (
    ACCOUNT_POSITION_INFO,
    ALLOWED,
    CONTRACT_INFO,
    USER_UID,
    Endpoint,
    NotAllowedError,
    Scope,
    signed_host,
    signed_query,
    socket_auth,
    timestamp_text,
)

AT_MS = 1_574_330_400_000  # 2019-11-21T10:00:00Z


@pytest.fixture
def vectors(shared: Path) -> dict[str, dict[str, Any]]:
    return {v["id"]: v for v in json.loads((shared / "data/htx/signing_vectors.json").read_text())["vectors"]}


def test_the_vendors_own_vectors(vectors: dict[str, dict[str, Any]]) -> None:
    for vector in vectors.values():
        text = signing.text_to_sign(vector["method"], vector["host"], vector["path"], vector["query"])
        assert signing.signature(text, PlainSecret(vector["secret"])) == vector["signature_base64"], vector["id"]


def test_the_whole_query_of_a_vector(vectors: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    vector = vectors["go_url_no_params"]
    endpoint = Endpoint(vector["method"], vector["path"], Scope.SPOT, signed=True)
    monkeypatch.setattr(signing, "ALLOWED", frozenset({endpoint}))
    query = signed_query(
        endpoint,
        (),
        host=vector["host"],
        api_key=PlainSecret(vector["access"]),
        api_secret=PlainSecret(vector["secret"]),
        at_ms=AT_MS,
    )
    assert f"https://{vector['host']}{vector['path']}?{query}" == vector["url"]


def test_the_socket_signs_the_same_text_and_encodes_nothing(vectors: dict[str, dict[str, Any]]) -> None:
    vector = vectors["go_url_no_params"]
    message = socket_auth(
        host=vector["host"],
        path=vector["path"],
        api_key=PlainSecret(vector["access"]),
        api_secret=PlainSecret(vector["secret"]),
        at_ms=AT_MS,
    )
    assert message == {
        "op": "auth",
        "type": "api",
        "AccessKeyId": "access",
        "SignatureMethod": "HmacSHA256",
        "SignatureVersion": "2",
        "Timestamp": "2019-11-21T10:00:00",
        "Signature": vector["signature_base64"],
    }


def test_a_get_signs_its_own_parameters_capitals_first() -> None:
    query = signed_query(
        USER_UID,
        [("uid", "a b/ä"), ("Zone", "+")],
        host="h",
        api_key=PlainSecret("k"),
        api_secret=PlainSecret("s"),
        at_ms=AT_MS + 999,
    )
    names = [part.partition("=")[0] for part in query.split("&")]
    assert names == ["AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp", "Zone", "uid", "Signature"]
    assert "uid=a%20b%2F%C3%A4" in query
    assert "Zone=%2B" in query
    assert "Timestamp=2019-11-21T10%3A00%3A00&" in query  # cut to the second


@pytest.mark.parametrize(
    ("url", "host", "why"),
    [
        ("https://api.hbdm.com", "api.hbdm.com", "the scheme's own port is not named"),
        ("https://API.HBDM.com:443", "api.hbdm.com", "nor where it is written out; lower case"),
        ("wss://api.hbdm.vn", "api.hbdm.vn", "the socket's host, not the REST one"),
        ("http://127.0.0.1:9001", "127.0.0.1:9001", "another port is part of the Host header"),
        ("ws://localhost:80", "localhost", "80 is the port of ws"),
        ("wss://localhost:80", "localhost:80", "and not of wss"),
    ],
)
def test_the_signed_host_is_the_requested_host(url: str, host: str, why: str) -> None:
    assert signed_host(url) == host, why


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/contract_switch_lever_rate"),
        ("POST", "/api/v1/contract_order"),
        ("POST", "/api/v1/contract_cancel"),
        ("POST", "/api/v1/contract_master_sub_transfer"),
        ("POST", "/v1/futures/transfer"),
        ("POST", "/v1/dw/withdraw/api/create"),
        ("GET", "/api/v1/contract_account_info"),
    ],
)
def test_what_is_not_in_the_table_cannot_be_signed(method: str, path: str) -> None:
    endpoint = Endpoint(method, path, Scope.PRIVATE, signed=True)
    with pytest.raises(NotAllowedError):
        signed_query(endpoint, (), host="h", api_key=PlainSecret("k"), api_secret=PlainSecret("s"), at_ms=AT_MS)


def test_a_public_call_cannot_be_signed() -> None:
    with pytest.raises(NotAllowedError):
        signed_query(CONTRACT_INFO, (), host="h", api_key=PlainSecret("k"), api_secret=PlainSecret("s"), at_ms=AT_MS)


def test_the_table_only_reads(project_root: Path) -> None:
    assert ACCOUNT_POSITION_INFO in ALLOWED
    reads = ("info", "_index", "adjustfactor", "ladder_margin", "elements", "timestamp", "/trade", "kline", "uid", "api-key")
    assert all(endpoint.path.endswith(reads) for endpoint in ALLOWED)
    assert all(endpoint.path.endswith("_info") for endpoint in ALLOWED if endpoint.method != "GET")
    paths = {endpoint.path for endpoint in ALLOWED}
    for file in (project_root / "monitor/venues/htx").glob("*.py"):  # no other path hides in the code
        for word in file.read_text().replace("(", " ").replace(",", " ").split():
            if word.startswith(('"/api/', '"/v1/', '"/v2/', '"/market', '"/index')):
                assert word.strip('"') in paths, file


def test_the_timestamp_is_utc() -> None:
    assert timestamp_text(1_494_515_970_000) == "2017-05-11T15:19:30"
