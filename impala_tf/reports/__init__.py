"""Files of runs, read back and shown: tables, bars, scalars, final returns."""
