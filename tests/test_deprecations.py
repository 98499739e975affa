"""What jax, flax or xarray deprecate is an error in tests, whether they blame our call or themselves."""

import warnings

import pytest

CATEGORIES = [DeprecationWarning, PendingDeprecationWarning, FutureWarning]


def calls(caller: str, library: str, category: type[Warning], stacklevel: int) -> None:
    """A module of this name calls one of the library, which warns of itself (level 1) or of the call (level 2)."""
    theirs = {"__name__": f"{library}.made_up", "warnings": warnings}
    exec(f"def old(): warnings.warn('old is deprecated', {category.__name__}, stacklevel={stacklevel})", theirs)
    exec("old()", {"__name__": caller, "old": theirs["old"]})


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("library", ["jax", "flax", "xarray"])
def test_deprecations_are_errors(library, category):
    ours = "emulator.training.train"
    for caller, stacklevel in ((ours, 2), ("data_prep.preparation.store", 2), ("test_train", 2), (ours, 1)):
        with pytest.raises(category, match="old is deprecated"):
            calls(caller, library, category, stacklevel)


def test_what_others_deprecate_among_themselves_is_none():
    with pytest.warns(DeprecationWarning, match="old is deprecated"):
        calls("another_library.part", "one_library", DeprecationWarning, 2)
