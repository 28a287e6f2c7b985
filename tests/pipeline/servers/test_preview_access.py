"""Who may use the preview page: origins, roles, sessions and the pace of logins, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepipe.core.passwords import PasswordHash, ScryptCost
from fusepipe.pipeline.servers.web import login_sessions, login_throttle
from fusepipe.pipeline.servers.web.access import Access, PageAccess, bearer_token, required_role
from fusepipe.pipeline.servers.web.login_sessions import LoginSessions
from fusepipe.pipeline.servers.web.login_throttle import LoginThrottle
from fusepipe.pipeline.servers.web.users import PageUser, Role, record_for

HOST = "127.0.0.1"
USER = PageUser("ann", Role.OPERATOR, PasswordHash.impossible(ScryptCost()))


# -- where a request comes from


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        (HOST, {"Host": "127.0.0.1:8080"}, None),
        (HOST, {"Host": "localhost:8080"}, None),
        (HOST, {"Host": "[::1]:8080"}, None),
        (HOST, {"Host": "evil.example:8080"}, 403),
        (HOST, {"Host": "10.0.0.5:8080"}, 403),
        (HOST, {}, 403),
        (HOST, {"Host": "localhost:8080", "Origin": "http://localhost:8080"}, None),
        (HOST, {"Host": "localhost:8080", "Origin": "http://localhost:9090"}, 403),
        (HOST, {"Host": "localhost:8080", "Origin": "https://evil.example"}, 403),
        (HOST, {"Host": "localhost:8080", "Origin": "null"}, 403),
        (HOST, {"Host": "localhost:8080", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        (HOST, {"Host": "localhost:8080", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, None),
        ("0.0.0.0", {"Host": "10.0.0.5:8080"}, None),
        ("0.0.0.0", {"Host": "rig.example.org:8080"}, None),
        ("0.0.0.0", {"Host": "evil.example:8080"}, 403),
        ("10.0.0.5", {"Host": "10.0.0.5:8080"}, None),
        ("10.0.0.5", {"Host": "10.0.0.6:8080"}, 403),
    ],
)
def test_only_our_own_names_and_origins_pass(host: str, headers: dict[str, str], status: int | None) -> None:
    refusal = Access(host, 8080, PageAccess(names=frozenset({"rig.example.org"}))).refusal(headers)
    assert (refusal and refusal.status) == status


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40) | st.none(), st.text(max_size=40))
def test_any_headers_are_judged(host: str, origin: str | None, authorization: str) -> None:
    access = Access("127.0.0.1", 8080, PageAccess("s3cret-s3cret"))
    headers = {"Host": host, "Authorization": authorization} | ({} if origin is None else {"Origin": origin})
    refusal = access.refusal(headers)
    assert refusal is None or refusal.status == 403
    assert not access.token_valid(bearer_token(headers) or "")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://localhost:8080"}, True),  # compared with Host before
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({}, False),
    ],
)
def test_a_form_has_to_be_of_our_own_page(headers: dict[str, str], passes: bool) -> None:
    refusal = Access.form_refusal(headers)
    assert (refusal is None) == passes and (refusal is None or refusal.status == 403)


def test_an_empty_token_is_never_valid() -> None:
    assert not Access(HOST, 8080, PageAccess()).token_valid("")
    assert not Access(HOST, 8080, PageAccess(users=(USER,))).token_valid("")
    assert Access(HOST, 8080, PageAccess("s3cret-s3cret")).token_valid("s3cret-s3cret")
    assert not Access(HOST, 8080, PageAccess("s3cret-s3cret")).token_valid("s3cret-s3creté")


# -- what a role may do


def test_an_operator_may_all_that_a_viewer_may() -> None:
    assert Role.OPERATOR.includes(Role.VIEWER) and Role.VIEWER.includes(Role.VIEWER)
    assert not Role.VIEWER.includes(Role.OPERATOR)


@pytest.mark.parametrize(
    ("method", "route", "role"),
    [
        ("GET", "/", Role.VIEWER),
        ("GET", "/api/rigs", Role.VIEWER),
        ("POST", "/rigs/{rig}/whep", Role.VIEWER),
        ("GET", "/metrics", Role.OPERATOR),
        ("GET", "/healthz", None),
        ("POST", "/login", None),
        ("GET", None, Role.VIEWER),  # no such path: only users are told so
        ("POST", "/rigs/{rig}/record", Role.OPERATOR),  # a route to come that changes something
        ("DELETE", "/rigs/{rig}", Role.OPERATOR),
    ],
)
def test_viewers_read_and_operators_change(method: str, route: str | None, role: Role | None) -> None:
    assert required_role(method, route) == role


def test_a_viewer_is_told_nothing_of_the_installation() -> None:
    record = {
        "rig": "roof",
        "state": "fused",
        "pairs": {"fused": 3},
        "sinks": [{"sink": "/data/roof.mkv", "up": True, "frames": 3}],
        "sources": {"visible": {"codec": "h264"}},
        "warnings": ["rtsp://10.0.0.5/x has no clock"],
        "status": {"state": "failed", "reasons": ["rtsp://10.0.0.5/x: timeout"], "failed_starts": 1},
        "a new key": 1,
    }
    shown = record_for(Role.VIEWER, record)
    assert shown["pairs"] == {"fused": 3} and shown["status"]["state"] == "failed"
    assert "10.0.0.5" not in str(shown) and "/data" not in str(shown) and "a new key" not in shown
    assert shown["sinks"] == [{"up": True, "frames": 3}]
    assert record_for(Role.OPERATOR, record) == record


def test_rigs_share_a_page_with_the_same_users_and_token_only() -> None:
    one = PageAccess("token-token", (USER,), frozenset({"a"}))
    assert one.joined(PageAccess("token-token", (USER,), frozenset({"b"}))).names == {"a", "b"}
    with pytest.raises(ValueError, match="different users"):
        one.joined(PageAccess("token-token", ()))
    with pytest.raises(ValueError, match="different tokens"):
        one.joined(PageAccess("", (USER,)))
    assert "token-token" not in repr(one) and "digest" not in repr(one)


# -- sessions


def test_a_session_ends_at_its_time_however_much_it_is_used() -> None:
    sessions = LoginSessions()
    name = sessions.begin("ann", Role.VIEWER, 100.0)
    assert len(name) >= 32 and sessions.find(name, 100.0) is sessions.find(name, 100.0 + login_sessions.SESSION_S - 1)
    session = sessions.find(name, 100.0)
    assert session is not None and (session.user, session.role) == ("ann", Role.VIEWER)
    ends: list[str] = []
    session.at_end.add(lambda: ends.append("video"))
    assert sessions.find(name, 100.0 + login_sessions.SESSION_S) is None
    assert session.ended and ends == ["video"]


def test_a_session_ends_by_logging_out_and_no_other_does() -> None:
    sessions = LoginSessions()
    one, other = sessions.begin("ann", Role.VIEWER, 0.0), sessions.begin("bob", Role.VIEWER, 0.0)
    assert one != other and sessions.find(one + "x", 1.0) is None and sessions.find(None, 1.0) is None
    ended = sessions.end(one)
    assert ended is not None and ended.ended and sessions.end(one) is None
    assert sessions.find(one, 1.0) is None and sessions.find(other, 1.0) is not None


def test_the_oldest_of_too_many_sessions_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_sessions, "MAX_SESSIONS", 2)
    sessions = LoginSessions()
    names = [sessions.begin("ann", Role.VIEWER, float(second)) for second in range(3)]
    assert [sessions.find(name, 3.0) is not None for name in names] == [False, True, True]


# -- the pace of logins


def test_each_failed_login_doubles_the_wait() -> None:
    throttle, now_s, waits = LoginThrottle(), 0.0, []
    for count in range(1, 10):
        assert throttle.failed("10.0.0.5", "ann", now_s) == count
        waits.append(throttle.wait_s("10.0.0.5", "ann", now_s))
        now_s += waits[-1]
        assert throttle.wait_s("10.0.0.5", "ann", now_s) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    throttle.succeeded("10.0.0.5", "ann")
    assert throttle.failed("10.0.0.5", "ann", now_s) == 1


def test_nobody_locks_out_a_user_at_another_address() -> None:
    throttle = LoginThrottle()
    throttle.failed("10.0.0.5", "ann", 0.0)
    throttle.failed("2001:db8::1", "ann", 0.0)
    assert throttle.wait_s("10.0.0.5", "ann", 0.0) == 1 and throttle.wait_s("10.0.0.5", "bob", 0.0) == 0
    assert throttle.wait_s("10.0.0.6", "ann", 0.0) == 0
    assert throttle.wait_s("2001:db8::2", "ann", 0.0) == 1, "one host has all addresses of its network"


def test_old_failures_are_forgotten_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "MAX_ENTRIES", 2)
    throttle = LoginThrottle()
    throttle.failed("10.0.0.5", "ann", 0.0)
    assert throttle.failed("10.0.0.5", "ann", login_throttle.FORGET_S + 1) == 1
    for name in ("bob", "cid"):
        throttle.failed("10.0.0.5", name, login_throttle.FORGET_S + 1)
    assert [throttle.wait_s("10.0.0.5", name, login_throttle.FORGET_S + 1) for name in ("ann", "bob", "cid")] == [
        0,
        1,
        1,
    ]
