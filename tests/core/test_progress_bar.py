"""Progress on a terminal of 80 columns and without a terminal; the lines of a run on both."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from fcntl import ioctl

import pytest

from fusepipe.core.progress_bar import PLAIN_S, ProgressBar, ProgressSteps, clock_time, plain_line

WORK = """
from fusepipe.core.progress_bar import ProgressBar
import threading
with ProgressBar("images") as bar:
    for done in range(1, 4):
        bar.step(done, 8, "a method with a name that is much too long for one line of a terminal, " * 2)
        threading.Event().wait(0.4)
"""


STEPS = """
from fusepipe.core import progress_bar
import threading
progress_bar.TERMINAL_S = 0.1
moments = iter(range(0, 10_000, 5))
with progress_bar.ProgressSteps(clock=lambda: next(moments)) as step:
    for name in ("reading", "compiling"):
        step(name)
        threading.Event().wait(0.5)
"""


def shown_on_a_terminal(command, columns=80, **environment):
    """What a command writes to a terminal of this width, on standard error."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=follower, env={**clean, "TERM": "xterm-256color", **environment}
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # the terminal's end of file
    finally:
        os.close(leader)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def drawn_lines(shown):
    """The lines without control sequences."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)) if line.strip()]


def test_a_bar_fits_one_line_of_80_columns_with_count_percent_and_time():
    lines = drawn_lines(shown_on_a_terminal([sys.executable, "-c", WORK]))
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(r"a method with a name .*…\s+\S+\s+3/8\s+38%\s+(\d\d:\d\d|--:--)", lines[-1]), lines[-1]


def test_no_color_takes_the_colours_away():
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m|\x1b\[[0-9;]*9[0-7]m")
    command = [sys.executable, "-c", WORK]
    assert colour.search(shown_on_a_terminal(command))
    assert not colour.search(shown_on_a_terminal(command, NO_COLOR="1"))


@pytest.mark.parametrize("columns", [80, 60])
def test_the_line_of_a_run_fits_the_terminal_and_says_how_far_it_is(columns, tmp_path):
    street = "synthetic://street?size={}&duration=4s&pace=fast"
    rig = f"""
schema: 1
rigs:
  roof-of-the-northern-hangar:
    infrared: {{url: "{street.format("80x60")}"}}
    visible: {{url: "{street.format("640x480")}"}}
    fusion: {{model: pyramid}}
    sinks: [{{file: out.mkv}}]
"""
    (tmp_path / "rigs.yaml").write_text(rig)
    command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(tmp_path / "rigs.yaml")]
    lines = drawn_lines(shown_on_a_terminal(command, columns))
    assert max(map(len, lines)) <= columns
    assert not any("…" in line for line in lines), "parts that do not fit are left out as a whole"
    assert any(re.match(r"roof-of-the-northern-hangar: \d+/100 pairs \d+%( \d+:\d\d left)? ", line) for line in lines)
    assert not any("latency" in line for line in lines), "of a recording it is the time in queues"


class Clock:
    """Seconds that the test sets."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


def test_without_a_terminal_a_plain_line_comes_now_and_then(capsys):
    clock = Clock()
    with ProgressBar("images", clock=clock) as bar:
        for done in range(1, 31):
            clock.now_s = done * PLAIN_S / 10
            bar.step(done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "images: 10 of 100, 10 %, 1:30 left",
        "images: 20 of 100, 20 %, 1:20 left",
        "images: 30 of 100, 30 %, 1:10 left",
    ]


def test_short_work_and_disabled_bars_print_nothing(capsys):
    clock = Clock()
    with ProgressBar("images", clock=clock) as short, ProgressBar("images", enabled=False, clock=clock) as disabled:
        short.step(1, 2)
        clock.now_s = 3 * PLAIN_S
        disabled.step(2, 2)
    assert capsys.readouterr().err == ""


def test_plain_lines_of_the_ends_have_no_time_left():
    assert plain_line("images", 0, 8, 60.0) == "images: 0 of 8, 0 %"
    assert plain_line("images", 8, 8, 60.0) == "images: 8 of 8, 100 %"


@pytest.mark.parametrize(("seconds", "text"), [(4.6, "0:05"), (760, "12:40"), (3723, "1:02:03")])
def test_times_left(seconds, text):
    assert clock_time(seconds) == text


def test_no_color_holds_for_the_tables_of_commands_too():
    """On a terminal as standard output."""
    code = (
        f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-m', 'fusepipe', 'doctor'], stdout=sys.stderr)"
    )
    assert "\x1b[" in shown_on_a_terminal([sys.executable, "-c", code])
    assert "\x1b[" not in shown_on_a_terminal([sys.executable, "-c", code], NO_COLOR="1")


def test_steps_show_their_time_on_a_terminal():
    shown = shown_on_a_terminal([sys.executable, "-c", STEPS])
    assert re.search(r"^reading \.\.\.(\rreading \.\.\. 0:\d\d)+\r?\ncompiling \.\.\.(\rcompiling .*)+\r?\n$", shown), (
        shown
    )


def test_a_long_step_says_in_a_log_that_it_goes_on(capsys):
    moments, asked, over = [0.0, 4.0, 12.0, 75.0], [], threading.Event()

    def clock():
        asked.append(moments[min(len(asked), 3)])
        if len(asked) == 5:  # what was asked for before is written
            over.set()
        return asked[-1]

    with ProgressSteps(plain_s=0.01, clock=clock) as step:
        step("compiling")
        assert over.wait(60)
    said = ["compiling ...", "compiling: 0:04 so far", "compiling: 0:12 so far", "compiling: 1:15 so far"]
    assert capsys.readouterr().err.splitlines()[:4] == said


def test_steps_that_are_not_wanted_print_nothing(capsys):
    with ProgressSteps(enabled=False) as step:
        step("compiling")
    assert capsys.readouterr() == ("", "")
