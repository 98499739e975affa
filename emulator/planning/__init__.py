"""A config for any files: a network and a course of training that fit the machine, the data and some minutes."""
