"""Files that are whole or not there: disks, JSON, NumPy arrays, NetCDF."""
