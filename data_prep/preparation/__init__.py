"""Canonical fields to a store: blocks, splits, statistics, climatology, and the rows that training reads."""
