"""The address of the Hub is checked before huggingface_hub is imported."""

import pytest

from pcsr_cli.errors import HubSettingError
from pcsr_cli.model.client import client
from tests.failing import fails


@pytest.mark.parametrize(
    "endpoint",
    ["nonsense", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999", "http://a b", "http://", " ", "://x"],
)
def test_invalid_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with fails(HubSettingError, f"HF_ENDPOINT is {endpoint!r}, which is not an http(s) address."):
        client()


@pytest.mark.parametrize("endpoint", ["", "https://huggingface.co", "http://127.0.0.1:9/", "http://[::1]:80/mirror"])
def test_valid_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    client()
