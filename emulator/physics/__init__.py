"""The physics model: SPEEDY, of intermediate complexity, on dinosaur's core; both through ``jcm``, extra ``physics``.

Everything that touches ``jcm`` lives in this package, and nothing of the core imports it at module level.
"""

from importlib.util import find_spec

from data_prep.errors import ConfigError, how_to_install

if find_spec("jcm") is None:
    raise ConfigError(f"the physics model needs jcm, the extra 'physics': {how_to_install('physics')}")
