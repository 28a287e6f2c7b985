"""The back-off of cameras: doubling, cap, jitter, reset, and its own count for failed logins."""

from helpers.live_sources import S

from fusepipe.pipeline.backoff import CAMERA, CAMERA_LOGIN, Backoff, BackoffPolicy


def test_back_off_doubles_up_to_its_cap_and_resets_when_healthy():
    backoff = Backoff(BackoffPolicy(first_ns=S, cap_ns=10 * S, jitter=0.5, healthy_ns=30 * S))
    assert [backoff.wait_ns(0.0) // S for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.wait_ns(1.0) == 15 * S
    backoff.delivered(29 * S)
    assert backoff.wait_ns(0.0) == 10 * S, "not healthy for long enough"
    backoff.delivered(30 * S)
    assert backoff.wait_ns(0.0) == S
    assert Backoff(BackoffPolicy(1, S)).wait_ns(0.0) == 1
    many = Backoff(CAMERA)
    assert max(many.wait_ns(1.0) for _ in range(5000)) <= CAMERA.cap_ns * 1.25


def test_a_failed_login_is_retried_rarely():
    backoff = Backoff(CAMERA)
    waits = [backoff.wait_ns(0.0, CAMERA_LOGIN) // S for _ in range(7)]
    assert waits == [30, 60, 120, 240, 480, 600, 600], "under an hour: 8 attempts"


def test_earlier_connection_failures_do_not_lengthen_the_wait_after_a_failed_login():
    """A camera that restarts refuses connections for a while, and then may refuse the password for a moment."""
    backoff = Backoff(CAMERA)
    assert [backoff.wait_ns(0.0) for _ in range(8)][-1] == CAMERA.cap_ns
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 30 * S
    assert backoff.wait_ns(0.0) == CAMERA.cap_ns
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 60 * S, "still the second failed login"
    backoff.delivered(10 * S)
    assert (backoff.wait_ns(0.0), backoff.wait_ns(0.0, CAMERA_LOGIN)) == (S // 4, 30 * S)


def test_the_first_retry_of_a_camera_that_returned_is_quick():
    """Disconnected for a minute, connected for three seconds, twice."""
    backoff = Backoff(CAMERA)
    for _ in range(2):
        assert [backoff.wait_ns(0.0) for _ in range(8)][-1] == CAMERA.cap_ns
        backoff.delivered(3 * S)
        assert backoff.wait_ns(0.0) == S // 4


def test_a_camera_that_drops_every_connection_after_a_frame_is_not_retried_rapidly():
    backoff = Backoff(CAMERA)
    waits = []
    for _ in range(9):
        backoff.delivered(S // 100)
        waits.append(backoff.wait_ns(0.0) * 4 // S)
    assert waits == [1, 1, 1, 2, 4, 8, 16, 32, 40], "quarters of a second"
    backoff.delivered(2 * S)
    assert backoff.wait_ns(0.0) == S // 4


def test_a_short_connection_does_not_clear_failed_logins():
    backoff = Backoff(CAMERA)
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 30 * S
    backoff.delivered(3 * S)
    assert backoff.wait_ns(0.0, CAMERA_LOGIN) == 60 * S
