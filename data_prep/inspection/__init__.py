"""What lies in files, what is wrong with it, and how it could be used."""
