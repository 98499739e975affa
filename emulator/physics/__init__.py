"""The physics model: SPEEDY, of intermediate complexity, on dinosaur's core; both through ``jcm``, extra ``physics``.

Everything that touches ``jcm`` lives in this package, and nothing of the core imports it at module level.
"""

from emulator.speedy_facts import refuse_without_jcm

refuse_without_jcm()
