"""What runs left, read back and shown: tables, bars, scalars, final returns."""
