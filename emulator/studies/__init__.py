"""Questions to many trainings, as what scaling buys or how long it takes to beat physics, and to made-up scores."""
