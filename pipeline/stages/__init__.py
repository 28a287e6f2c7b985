"""Processing of pairs: scaling, registration, tone mapping, cropping, fusion, drift watch, state label."""
