"""The model of STUN and TURN servers, with which WebRTC passes NATs and firewalls."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fusepipe.config.base import ConfigModel
from fusepipe.core.redact import remember_secret

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_URL = re.compile(rf"(?:(?P<stun>stuns?)|turns?):{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?P<query>\?.*)?")
_EXAMPLES = "stun:stun.example.org or turn:turn.example.org:3478"


def _url(value: str) -> str:
    """A URL of RFC 7064 or 7065; the message never shows it: some write the password into it."""
    found = _URL.fullmatch(value)
    if found is None:
        raise ValueError(f"should be {_EXAMPLES}, or stuns: or turns: for TLS, with a name or an IPv4 address")
    if found["port"] is not None and not 0 < int(found["port"]) < 65536:
        raise ValueError("has a port that is not a number from 1 to 65535")
    if found["query"] is not None and (found["stun"] or found["query"] not in ("?transport=udp", "?transport=tcp")):
        raise ValueError("may end in ?transport=udp or ?transport=tcp for turn:, and in nothing else")
    return value


def _secret(value: Any) -> Any:
    if isinstance(value, str):
        remember_secret(value)
        if not value or not all(32 <= ord(character) < 127 for character in value):
            raise ValueError("should be letters, digits and signs of ASCII")
    return value


def _name(value: str) -> str:
    if not value or not all(32 <= ord(character) < 127 for character in value):
        raise ValueError("should be letters, digits and signs of ASCII")
    return value


class PreviewIceServer(ConfigModel):
    """STUN and TURN servers for the WebRTC video of a preview page."""

    urls: tuple[Annotated[str, AfterValidator(_url)], ...] = Field(
        max_length=8,
        description="Their URLs, such as [stun:turn.example.org, turn:turn.example.org]; ?transport=tcp and turns: go "
        "through firewalls that block UDP.",
    )
    username: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None, description="The user of turn: servers."
    )
    credential: Annotated[str, BeforeValidator(_secret)] | None = Field(
        default=None, description="The password of turn: servers. Everyone who may watch the page can read it."
    )

    @model_validator(mode="after")
    def _login(self) -> Self:
        if not self.urls:  # as a limit of the field it would be reported beside every wrong URL
            raise ValueError(f"urls is empty: write {_EXAMPLES}")
        turn = any(url.startswith("turn") for url in self.urls)
        if turn and (self.username is None or self.credential is None):
            raise ValueError("turn: needs username and credential")
        if not turn and (self.username is not None or self.credential is not None):
            raise ValueError("username and credential are for turn: servers: remove them")
        return self

    def __repr_args__(self) -> Any:
        return [("urls", self.urls)]
