"""Addresses of servers, as they are shown."""

import ipaddress

import pytest

from fusepipe.pipeline.servers.addresses import every_address_note


def test_an_address_is_named_in_place_of_every_address():
    note = every_address_note("roof: preview on http://0.0.0.0:8080/?token=a\nroof: serving rtsp://0.0.0.0:8554/roof")
    if not note:
        pytest.skip("this machine has no route to other networks")
    before, _, after = note.partition(" is every address of this machine; on other machines open ")
    assert before == "0.0.0.0"
    own = ipaddress.ip_address(after.removesuffix(" in its place"))
    assert own.version == 4 and not own.is_unspecified and not own.is_loopback


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://10.0.0.0:8080", "rtsp://rig.example.org:8554/a", ""])
def test_other_addresses_need_no_note(url):
    assert every_address_note(url) == ""
