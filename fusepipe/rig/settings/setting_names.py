"""What messages call a setting: its key in a rig file or, for a rig made from options, the option of the command."""

from __future__ import annotations

from fusepipe.config.schema import Rig

_FUSE_OPTIONS = {
    "sync.offset": "--offset",
    "sync.tolerance": "--tolerance",
    "sync.pair_by: order": "--pair-by order",
    "sync.pair_by: time": "--pair-by time",
    "sync.pair_by: name": "--pair-by name",
    "registration.calibration": "--calibration",
}


def setting_name(rig: Rig, key: str) -> str:
    """``sync.offset`` or ``--offset``; a key without an option stays as it is."""
    return _FUSE_OPTIONS.get(key, key) if rig.from_options else key
