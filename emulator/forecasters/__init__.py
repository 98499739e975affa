"""Everything that makes forecasts: the protocol, the statistical references, the network, the physics."""
