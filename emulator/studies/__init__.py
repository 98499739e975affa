"""Questions to many trainings: what scaling buys, which network learns most, how long it takes to beat physics."""
