"""Users of a preview page, with hashes that are cheap to verify."""

from __future__ import annotations

from fusepipe.core.passwords import ScryptCost, hash_password
from fusepipe.pipeline.servers.web.users import PageUser, Role

PASSWORD = "correct horse battery"
CHEAP = ScryptCost(ln=14, r=8, p=1)
ANN = PageUser("ann", Role.OPERATOR, hash_password(PASSWORD, CHEAP))
VIC = PageUser("vic", Role.VIEWER, hash_password(PASSWORD, CHEAP))
USERS = (ANN, VIC)
