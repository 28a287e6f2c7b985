"""Networks on CPUs through OpenVINO: the fuser, its requests, the integer levels of pyramid networks, single runs."""
