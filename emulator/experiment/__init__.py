"""An experiment as a whole: its stages, who competes from when, and where results lie."""
