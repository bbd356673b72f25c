"""HF_ENDPOINT, looked at before huggingface_hub is imported, which would stumble over an address that is none."""

import os
from urllib.parse import urlsplit

from pcsr_cli.failures import hub


def check_endpoint() -> None:
    """Raise HubError for an HF_ENDPOINT that is no http(s) address."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError as error:  # such as a port that is no number
        raise hub.NO_ADDRESS(endpoint=endpoint) from error
    if parts.scheme not in {"http", "https"} or not host or any(letter.isspace() for letter in endpoint):
        raise hub.NO_ADDRESS(endpoint=endpoint)
