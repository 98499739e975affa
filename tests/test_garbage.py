"""Python's search for garbage is put off while a training starts, and no longer."""

import gc

import pytest

from emulator.hardware.garbage import search_again, search_put_off


def test_it_is_put_off_until_the_work_has_begun():
    assert gc.isenabled()
    with search_put_off():
        assert not gc.isenabled()
        search_again()
        assert gc.isenabled()
    assert gc.isenabled()


def test_what_fails_at_the_start_leaves_it_as_it_was():
    with pytest.raises(KeyError), search_put_off():
        raise KeyError
    assert gc.isenabled()


def test_who_has_turned_it_off_keeps_it_off():
    gc.disable()
    try:
        with search_put_off():
            search_again()
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
