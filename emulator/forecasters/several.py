"""Several networks as one forecaster: the mean of what they forecast from the same fields, each of their forecasts, or
one forecast whose every step is the mean of theirs.

Networks that differ by the draw of their training err differently, so their mean errs less than any of them (Lakshmi-
narayanan et al. 2017, arXiv:1612.01474), and how far they lie apart says something of how sure they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal, TypeAlias, get_args

import jax
import numpy as np
import xarray as xr

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.forecasters.base import Forecaster, realizations
from emulator.forecasters.neural import LATERAL, OUTSIDE, NeuralForecaster
from emulator.learned_from import of_several
from emulator.stepping.rollout import Params
from emulator.stepping.supermodel import SupermodelStepper

Together: TypeAlias = Literal["mean", "members", "supermodel"]


def differences(network: NeuralForecaster, spec: StateSpec, grid: Grid, timestep: np.timedelta64) -> list[str]:
    """In what a network differs from others so that it cannot forecast beside them, in words; none where it can."""
    shared = {v.name for v in spec.variables if v.role in ("prognostic", "diagnostic") or v.known == "persisted"}
    differ = {
        "variables": {*network.spec.state_channels} != {*spec.state_channels},
        "grid": not network.grid.matches(grid),
        "time step": network.timestep != timestep,
        "units": any(network.spec[n].units != spec[n].units for n in {v.name for v in network.spec.variables} & shared),
        "persisted forcings": not {*network.spec.known_channels("persisted")} <= {*spec.known_channels("persisted")},
    }
    return [word for word, differs in differ.items() if differs]


@dataclass(frozen=True)
class Shared:
    """What networks that step together have in common.

    Attributes:
      data_hash: Of the store they learned from.
      time_steps: Steps that they take, in time steps of the data.
      departs: Whether they step departures from climatology.
    """

    data_hash: str
    time_steps: tuple[int, ...]
    departs: bool

    def differences(self, other: Shared) -> list[str]:
        """In what one differs from another, in words."""
        differ = {
            "training data": self.data_hash != other.data_hash,
            "lengths of steps": self.time_steps != other.time_steps,
            "departures": self.departs != other.departs,
        }
        return [word for word, differs in differ.items() if differs]


def shared_by(network: NeuralForecaster) -> Shared:
    """Of a network."""
    return Shared(network.data_hash, network.stepper.time_steps, network.climatology is not None)


def cannot_step_together(what: Sequence[str], first: str) -> str:
    """Why a network that differs in this from the first cannot step together with it."""
    return (
        f"has other {' and '.join(what)} than {first}; networks that step together share all that, the mean of their "
        "forecasts needs none of it"
    )


@dataclass(frozen=True, eq=False)
class SeveralNetworks:
    """Networks for the same variables, grid and time step; what initial fields must hold, the first one says.

    Attributes:
      networks: Two at least.
      how: ``mean``, of their forecasts, which is smoother than they are (look at its activity); ``members``, every
        network's own fields along ``realization``; or ``supermodel``, one forecast whose every step is the mean of the
        steps of all from there (``emulator.stepping.supermodel``), for networks that have learned from the same data.
      called: Its ``name``, where ``how`` does not say it.

    Raises:
      ConfigError: ``how`` is none of the three.
      DataError: there are fewer than two, one is no network, differs from the first, or is there twice.
    """

    networks: tuple[NeuralForecaster, ...]
    how: Together = "mean"
    called: str | None = None

    def __post_init__(self) -> None:
        if self.how not in get_args(Together):
            raise ConfigError(f"several networks: how is {self.how!r}, expected {', '.join(get_args(Together))}")
        networks = (self.networks,) if isinstance(self.networks, NeuralForecaster) else tuple(self.networks)
        object.__setattr__(self, "networks", networks)
        if strange := [network for network in networks if not isinstance(network, NeuralForecaster)]:
            raise DataError(f"several networks: {strange[0]!r} is none; load_forecaster gives one of a run folder")
        if len(networks) < 2:
            raise DataError(f"several networks: {len(networks)} given, expected two at least")
        for network in self.networks[1:]:
            if what := differences(network, self.spec, self.grid, self.timestep):
                raise DataError(f"{network.name}: has other {' and '.join(what)} than {self.networks[0].name}")
        for one, other in combinations(self.networks, 2):
            if _same_weights(one.params, other.params):
                raise DataError(f"{other.name}: has the weights of {one.name}; name networks that differ")
        first = self.networks[0]
        for network in self.networks[1:] if self.how == "supermodel" else ():
            if what := shared_by(network).differences(shared_by(first)):
                raise DataError(f"{network.name}: {cannot_step_together(what, first.name)}")

    @property
    def name(self) -> str:
        """Of its files."""
        names = {"mean": "mean of networks", "members": "networks", "supermodel": "supermodel of networks"}
        return self.called or names[self.how]

    @property
    def spec(self) -> StateSpec:
        """See ``Forecaster``."""
        return self.networks[0].spec

    @property
    def grid(self) -> Grid:
        """See ``Forecaster``."""
        return self.networks[0].grid

    @property
    def timestep(self) -> np.timedelta64:
        """See ``Forecaster``."""
        return self.networks[0].timestep

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``.

        Raises:
          DataError: a network refuses the initial fields.
          ForecastStoppedError: a network's forecast was stopped; the leads that all reached have been yielded.
        """
        if self.how == "supermodel":
            yield from self._supermodel.forecast(initial, lead_times)
            return
        for blocks in _together([network.forecast(initial, lead_times) for network in self.networks]):
            # by name, not by coordinates: grids may differ by the rounding of the files that each has learned from
            first = blocks[0]
            fields = {name: [block[name].values for block in blocks] for name in first.data_vars}
            if self.how == "members":
                dims = {name: (*first[name].dims[:2], "realization", *first[name].dims[2:]) for name in fields}
                members = {n: (dims[n], np.stack(each, axis=2), first[n].attrs) for n, each in fields.items()}
                yield xr.Dataset(members, {**first.coords, "realization": realizations(len(blocks))}, first.attrs)
            else:
                yield first.assign({name: first[name].copy(data=np.mean(f, axis=0)) for name, f in fields.items()})

    @cached_property
    def _supermodel(self) -> NeuralForecaster:
        stepper = SupermodelStepper(tuple(network.stepper for network in self.networks))
        params = tuple(network.params for network in self.networks)
        return replace(self.networks[0], name=self.name, stepper=stepper, params=params)

    def attributes(self, initial: xr.Dataset) -> dict[str, str]:
        """As ``NeuralForecaster.attributes``, of all networks together; of a supermodel, whose it is."""
        each = [network.attributes(initial) for network in self.networks]
        known = dict.fromkeys(attributes[OUTSIDE] for attributes in each)
        outside = [words for words in known if words not in ("none", "not known")]
        said = "; ".join(outside or (["not known"] if "not known" in known else ["none"]))
        driven = [attributes[LATERAL] for attributes in each if LATERAL in attributes]
        told = {OUTSIDE: said, **of_several(each)} | ({LATERAL: driven[0]} if driven else {})
        if self.how == "supermodel":
            told["supermodel_of"] = ", ".join(network.name for network in self.networks)
        return told


def networks_of(forecaster: Forecaster) -> tuple[NeuralForecaster, ...]:
    """The networks that a forecaster is made of; none where it is no network."""
    if isinstance(forecaster, SeveralNetworks):
        return forecaster.networks
    return (forecaster,) if isinstance(forecaster, NeuralForecaster) else ()


def _same_weights(one: Params, other: Params) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(map(np.array_equal, leaves, others))  # ends at the first that differs


def _together(streams: Sequence[Iterator[xr.Dataset]]) -> Iterator[list[xr.Dataset]]:
    """Blocks of all streams with the same leads, though one may come in other lengths than another."""
    blocks = [next(stream, None) for stream in streams]
    while present := [block for block in blocks if block is not None]:
        assert len(present) == len(streams), "a forecaster left out leads"
        n = min(block.sizes["lead_time"] for block in present)
        yield [block.isel(lead_time=slice(n)) for block in present]
        rest = [block.isel(lead_time=slice(n, None)) for block in present]
        blocks = [r if r.sizes["lead_time"] else next(s, None) for r, s in zip(rest, streams, strict=True)]
