"""The model of a user of a preview page."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from fusepipe.config.base import ConfigModel
from fusepipe.core.passwords import PasswordHash


def _user_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", value):
        raise ValueError("should be 1 to 64 letters, digits, '.', '_', '-' or '@'")
    return value


def _password_hash(value: str) -> str:
    PasswordHash.parse(value)
    return value


class PreviewUser(ConfigModel):
    """A user of a preview page, who logs in with a password."""

    name: Annotated[str, AfterValidator(_user_name)] = Field(description="The name to log in with.")
    role: Literal["viewer", "operator"] = Field(
        default="viewer",
        description="viewer sees the video and the state of the rigs; operator also the reasons of failures, cameras, "
        "outputs, engine, load and metrics.",
    )
    password_hash: Annotated[str, AfterValidator(_password_hash)] = Field(
        description="The hash of the password, in quotes: what 'fusepipe hash-password' prints."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_password(cls, data: Any) -> Any:
        if isinstance(data, dict) and "password" in data:
            raise ValueError("has a password: write its password_hash, the line that 'fusepipe hash-password' prints")
        return data

    def __repr_args__(self) -> Any:
        return [("name", self.name), ("role", self.role)]
