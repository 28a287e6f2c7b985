"""Password hashes, and the command that makes them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepipe.core.passwords import PasswordHash, ScryptCost, hash_password

CHEAP = ScryptCost(ln=14, r=8, p=1)
PASSWORD = "correct horse battery"
# scrypt of RFC 7914, section 12, third vector: its password, salt and cost, and the first 32 bytes of its result
RFC = ScryptCost(ln=14, r=8, p=1)
RFC_DIGEST = bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")


def test_the_hash_is_that_of_the_standard() -> None:
    known = PasswordHash(RFC, b"SodiumChloride", RFC_DIGEST)
    assert known.verify("pleaseletmein") and not known.verify("pleaseletmeout")


def test_a_hash_verifies_its_password_and_no_other() -> None:
    one, other = hash_password(PASSWORD, CHEAP), hash_password(PASSWORD, CHEAP)
    assert str(one) != str(other), "each has a salt of its own"
    read = PasswordHash.parse(str(one))
    assert read == one and read.verify(PASSWORD)
    assert not read.verify(PASSWORD.upper()) and not read.verify("") and not read.verify(str(one))
    assert not PasswordHash.impossible(CHEAP).verify(PASSWORD)
    assert PASSWORD not in repr(one) + str(one) and str(one).rpartition("$")[2] not in repr(one)


def test_a_letter_composed_in_two_ways_is_one_letter() -> None:
    assert hash_password("caf\u00e9 caf\u00e9", CHEAP).verify("cafe\u0301 cafe\u0301")


def test_the_default_cost_is_the_recommended_one() -> None:
    assert str(hash_password(PASSWORD)).startswith("$scrypt$ln=15,r=8,p=3$")
    assert ScryptCost().memory_bytes == 32 << 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "should be the line that 'fusepipe hash-password' prints"),
        ("hunterseven", "should be the line"),
        ("$2b$12$" + "a" * 53, "should be the line"),
        ("$scrypt$ln=15,r=8,p=3$" + "a" * 21 + "$" + "a" * 43, "should be the line"),
        ("$scrypt$ln=15,r=8,p=3$" + "a" * 25 + "$" + "a" * 43, "is damaged"),
        ("$scrypt$ln=10,r=8,p=1$" + "a" * 22 + "$" + "a" * 43, "has the cost ln=10,r=8,p=1, which is too low"),
        ("$scrypt$ln=30,r=8,p=1$" + "a" * 22 + "$" + "a" * 43, "too high"),
        ("$scrypt$ln=15,r=8,p=0$" + "a" * 22 + "$" + "a" * 43, "too low or too high"),
        ("$scrypt$ln=15,r=8,p=99$" + "a" * 22 + "$" + "a" * 43, "too low or too high"),
    ],
)
def test_a_damaged_hash_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as refused:
        PasswordHash.parse(text)
    assert "\n" not in str(refused.value) and (not text or text not in str(refused.value))


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=120) | st.from_regex(r"\$scrypt\$ln=[0-9]+,r=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/=]*\$[A-Za-z0-9+/=]*")
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        shown = str(PasswordHash.parse(text))
    except ValueError as error:
        shown = str(error)
    assert shown.startswith("$scrypt$") or "hash-password" in shown


@pytest.mark.parametrize(
    ("password", "problem"),
    [("short", "needs 8 to 128 characters"), ("x" * 129, "needs 8 to 128"), ("tab\ttab tab", "control characters")],
)
def test_a_password_that_cannot_be_typed_or_is_short_is_refused(password: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        hash_password(password)
    assert password not in str(refused.value)


# -- the command


def hashed_by_command(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusepipe", "hash-password", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def hash_in(output: str) -> PasswordHash:
    (line,) = re.findall(r'password_hash: "(\$scrypt\$[^"]*)"', output)
    return PasswordHash.parse(line)


def test_the_command_hashes_a_line_of_standard_input() -> None:
    ran = hashed_by_command("-", text=f"{PASSWORD}\n")
    assert (ran.returncode, ran.stderr) == (0, "") and len(ran.stdout.splitlines()) == 1
    assert hash_in(ran.stdout).verify(PASSWORD)
    as_json = hashed_by_command("-", "--json", text=PASSWORD)
    assert PasswordHash.parse(json.loads(as_json.stdout)["password_hash"]).verify(PASSWORD)


@pytest.mark.parametrize(
    ("arguments", "text", "problem"),
    [
        ((PASSWORD,), "", "a password is no argument"),
        (("correct", "horse"), "", "a password is no argument"),
        ((), PASSWORD, "there is no terminal to ask for the password; with - it is read from standard input"),
        (("-",), "", "has to be one line"),
        (("-",), f"{PASSWORD}\n{PASSWORD}\n", "has to be one line"),
        (("-",), "short", "needs 8 to 128 characters"),
    ],
)
def test_the_command_refuses_in_one_line_that_does_not_show_the_password(
    arguments: tuple[str, ...], text: str, problem: str
) -> None:
    ran = hashed_by_command(*arguments, text=text)
    assert ran.returncode == 2 and ran.stdout == ""
    assert problem in ran.stderr and len(ran.stderr.splitlines()) == 1
    assert "horse" not in ran.stderr


class Terminal:
    """The command in a pseudo-terminal, as a user types into it; its standard output is a pipe."""

    def __init__(self) -> None:
        self._keyboard, screen = pty.openpty()
        command = [sys.executable, "-m", "fusepipe", "hash-password"]
        self.process = subprocess.Popen(
            command, stdin=screen, stderr=screen, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        os.close(screen)
        self.shown = ""

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read until `text` was shown `times` times since the start: several lines may come in one read."""
        end_s = time.monotonic() + 60
        while self.shown.count(text) < times:
            ready, _, _ = select.select([self._keyboard], [], [], 1)
            assert time.monotonic() < end_s, self.shown
            self.shown += os.read(self._keyboard, 1024).decode() if ready else ""

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)
        os.close(self._keyboard)


def test_the_command_asks_twice_in_a_terminal_and_shows_nothing_of_it() -> None:
    with Terminal() as terminal:
        terminal.wait_for("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for("Again: ")
        terminal.type("another password\n")
        terminal.wait_for("do not match")
        terminal.wait_for("Password: ", times=2)
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for("Again: ", times=2)
        terminal.type(f"{PASSWORD}\n")
        output, _ = terminal.process.communicate(timeout=60)
        assert terminal.process.returncode == 0
        assert "horse" not in terminal.shown and "another" not in terminal.shown
        assert hash_in(output).verify(PASSWORD)
