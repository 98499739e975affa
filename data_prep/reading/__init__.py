"""Any files to canonical fields: formats, names, units, positions, times; what is wrong with them."""
