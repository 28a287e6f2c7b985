"""The pause of the garbage collector during imports."""

import gc

import pytest

from fusepipe.core.imports import without_collection


def test_the_collector_is_paused_inside_and_runs_again_after_an_error() -> None:
    inside = []

    def import_what_is_missing() -> None:
        with without_collection():
            with without_collection():
                inside.append(gc.isenabled())
            inside.append(gc.isenabled())
            raise ImportError

    assert gc.isenabled()
    with pytest.raises(ImportError):
        import_what_is_missing()
    assert inside == [False, False]
    assert gc.isenabled()


def test_a_collector_that_a_program_has_disabled_stays_so() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
