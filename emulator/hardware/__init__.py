"""The machine: what it can do, how its memory and its compiled programs are handled, who works."""
