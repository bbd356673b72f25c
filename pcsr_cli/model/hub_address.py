"""HF_ENDPOINT, looked at before huggingface_hub is imported, which would stumble over an address that is none."""

import os
from urllib.parse import urlsplit

from pcsr_cli.errors import HubError


def check_endpoint() -> None:
    """Raise HubError for an HF_ENDPOINT that is no http(s) address."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError as error:  # such as a port that is no number
        raise HubError(
            f"HF_ENDPOINT, {endpoint!r}, is no address of a Hub.", "Such as https://huggingface.co; or unset it."
        ) from error
    if parts.scheme not in {"http", "https"} or not host or any(letter.isspace() for letter in endpoint):
        raise HubError(
            f"HF_ENDPOINT, {endpoint!r}, is no address of a Hub.", "Such as https://huggingface.co; or unset it."
        )
