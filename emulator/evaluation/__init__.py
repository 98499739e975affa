"""Scores forecast files against the truth. Imports no model, no trainer and no forecaster, nor does what it imports.

The way of a number: ``fields`` reads truth, climatology and forecasts through one function; ``statistics``
reduces them to area means per initial time, which are additive; ``metrics`` turns mean statistics into
scores; ``significance`` says how sure they are; ``crossover`` says until when one forecaster beats another;
``scores`` puts it all into one file.
"""
