"""The settings of huggingface_hub: the address of the Hub, proxies, certificates and the token.

The functions import huggingface_hub when they are called, because the import is slow and fails on an invalid
HF_ENDPOINT."""

import contextlib
import logging
import os
import re
import ssl
import urllib.request
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from pcsr_cli.errors import HubSettingError
from pcsr_cli.images.files import exists, reason

TOKEN = re.compile(r"[!-~]+")
LOGIN = re.compile(r"//.*@", re.DOTALL)
"""A pattern of the user and the password in an address."""

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def client() -> ModuleType:
    """The module huggingface_hub. Raises HubSettingError if an environment variable of huggingface_hub is invalid."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # for example a port that is not a number
        valid = False
    if not valid or not endpoint.isprintable() or " " in endpoint:
        raise HubSettingError(
            f"HF_ENDPOINT is {_without_login(endpoint)!r}, which is not an http(s) address.",
            "Unset HF_ENDPOINT, or use https://huggingface.co.",
        )
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about variables without effect on pcsr, such as HF_HUB_ENABLE_HF_TRANSFER
            import huggingface_hub.constants
            import huggingface_hub.utils.logging
    except ValueError as error:
        names = [name for name, value in os.environ.items() if name.startswith("HF_") and value and value in str(error)]
        name = names[0] if names else "a variable of huggingface_hub"
        raise HubSettingError(f"The value of {name} is invalid.", "Correct or unset the variable.") from error
    finally:
        logging.disable(disabled)
    return huggingface_hub


def endpoint() -> str:
    """The address of the Hub, without a user and a password. Raises HubSettingError."""
    return _without_login(client().constants.ENDPOINT)


def _without_login(text: str) -> str:
    return LOGIN.sub("//", text)


def unreachable() -> str:
    """Return a clause which states that the Hub cannot be reached, and through which proxy."""
    parts = urlsplit(client().constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    used = proxy and not urllib.request.proxy_bypass(parts.hostname or "")
    through = f" through the proxy {_without_login(proxy)}" if proxy and used else ""
    return f"the Hub ({endpoint()}) cannot be reached{through}"


def short_message(error: BaseException) -> str:
    """The message of an error in one line of at most 100 characters, without a user and a password."""
    return _without_login(" ".join(str(error).split()))[:100].rstrip(".")


def http_session() -> Any:
    """The HTTP client of huggingface_hub. Raises HubSettingError for a proxy or certificates that the client cannot
    use."""
    try:
        return client().get_session()
    except ImportError as error:
        raise HubSettingError(
            "The proxy settings name a SOCKS proxy, which needs the Python package socksio.",
            "Install socksio, use an http proxy, or unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY.",
        ) from error
    except OSError as error:
        names = sorted(filter(os.environ.get, CERTIFICATES), key=lambda name: exists(Path(os.environ[name])))
        used = f"{names[0]} {os.environ[names[0]]}" if names else "the certificates of the system"
        why = "there is no certificate" if isinstance(error, ssl.SSLError) else reason(error)
        raise HubSettingError(f"Cannot use {used}: {why}.", "Correct or unset SSL_CERT_FILE.") from error
    except Exception as error:
        raise HubSettingError(
            f"The proxy settings are invalid: {short_message(error)}.", "Correct ALL_PROXY, HTTP_PROXY and HTTPS_PROXY."
        ) from error


def find_token() -> str | None:
    """The user's token, or None. Raises HubSettingError for a token that cannot be sent."""
    hub, token = client(), None
    with contextlib.suppress(Exception):  # without a token that cannot be read or renewed, public models still work
        token = hub.utils.get_token_to_send(None)
    if token is not None and not TOKEN.fullmatch(token):
        raise HubSettingError("HF_TOKEN contains characters that a token cannot have.", "Correct or unset HF_TOKEN.")
    return token
