"""The result of a process that ran rigs: reports, errors, exit code."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusepipe.core.errors import FusepipeError, Interrupted
from fusepipe.rig.report.run_report import RunReport


@dataclass
class RunOutcome:
    """Reports and errors of all rigs, in their order.

    ``interrupted``: a signal ended the run; ``terminated``: which was SIGTERM, and the command ends well with it.
    ``end_errors``: those of ``errors`` that occurred after the signal. ``stuck``: a thread hangs in a system call, so
    the run did not complete. ``blocked``: the run is complete, but the reader of a camera that does not answer has not
    ended.
    """

    reports: list[RunReport] = field(default_factory=list)
    errors: list[FusepipeError] = field(default_factory=list)
    end_errors: list[FusepipeError] = field(default_factory=list)
    interrupted: bool = False
    terminated: bool = False
    stuck: bool = False
    blocked: bool = False

    @property
    def exit_code(self) -> int:
        """130 when interrupted, else that of the first error, else 0.

        After SIGTERM it is that of the first error of the end, such as a file that could not be finalised: what failed
        before does not make stopping a service a failure.
        """
        if self.interrupted and not self.terminated:
            return Interrupted.exit_code
        errors = self.end_errors if self.terminated else self.errors
        return errors[0].exit_code if errors else 0
